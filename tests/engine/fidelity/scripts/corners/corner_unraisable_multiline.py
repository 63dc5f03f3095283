def deep(n):
    if n: return deep(n - 1)
    raise KeyError(
        "k"
    )
class A:
    def __del__(self):
        deep(
            8
        )
a = A(); del a
