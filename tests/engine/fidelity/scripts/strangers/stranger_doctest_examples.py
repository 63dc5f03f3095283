import doctest
def average(v):
    """Average.

    >>> average([1, 2])
    1.5
    >>> average([])
    Traceback (most recent call last):
        ...
    ZeroDivisionError: division by zero
    >>> average("x")
    2
    """
    return sum(v) / len(v)
print(doctest.testmod(verbose=True))
