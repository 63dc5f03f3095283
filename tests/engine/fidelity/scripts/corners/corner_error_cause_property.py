class E(Exception):
    __cause__ = property(lambda s: (print("cause asked"), None)[1])
raise E("x")
