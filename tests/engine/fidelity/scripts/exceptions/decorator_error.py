import functools
def deco(f):
    @functools.wraps(f)
    def inner(*a, **k):
        return f(*a, **k)
    return inner
@deco
def target(x): raise RuntimeError(x)
target("decorated")
