import inspect
def f(a, b=2):
    """Doc."""
    return a + b  # a comment
print(inspect.getsource(f))
print(inspect.signature(f), inspect.getdoc(f))
