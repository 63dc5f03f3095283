import doctest
class A:
    def _repr_markdown_(self): return "# md"
    def __repr__(self): return "A()"
def f():
    """
    >>> A()
    A()
    """
print(doctest.testmod())
