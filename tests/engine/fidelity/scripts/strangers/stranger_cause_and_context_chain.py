def one():
    raise OSError(2, "No such file or directory", "a.txt")
def two():
    try:
        one()
    except OSError as e:
        raise RuntimeError("two") from e
def three():
    try:
        two()
    finally:
        {}["missing"]
three()
