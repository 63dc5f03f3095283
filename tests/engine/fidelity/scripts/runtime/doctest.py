import doctest
def f(x):
    """
    >>> f(1)
    3
    """
    return x + 1
print(doctest.testmod())
