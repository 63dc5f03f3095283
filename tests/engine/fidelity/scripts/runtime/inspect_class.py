import inspect
class A:
    """A class."""
    x = 1

    def m(self):
        return self.x
print(inspect.getsource(A))
print(inspect.getsource(A.m))
