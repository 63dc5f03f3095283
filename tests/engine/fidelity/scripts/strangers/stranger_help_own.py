def f(x: int) -> int:
    """Say x.

    More."""
class A:
    "About A."
    def m(self): "About m."
help(f); help(A); help("math.sqrt")
