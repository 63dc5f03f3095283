try:
    {}["a"]
except KeyError as error:
    raise ValueError("bad") from error
