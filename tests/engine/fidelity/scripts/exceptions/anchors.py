def f(a, b):
    return (a +
            b["key"]["other"])

f(1, {"key": None})
