import warnings
def f():
    warnings.warn("called", stacklevel=2)
f()
f()
