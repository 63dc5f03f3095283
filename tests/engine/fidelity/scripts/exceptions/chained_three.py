def a():
    try:
        1 / 0
    except Exception:
        b()
def b():
    try:
        [][1]
    except Exception as e:
        raise OSError(2, "gone", "file.txt") from e
a()
