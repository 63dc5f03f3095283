import sys
main = sys.modules["__main__"]
print(__name__, __doc__, __package__, __spec__, __builtins__, __annotations__)
print(main, main.__name__, hasattr(main, "__path__"), type(__loader__).__name__)
print(sorted(globals()), list(vars()) == list(globals()), vars() is globals() is main.__dict__)
print(dir())
print(__import__("__main__") is main, __debug__, main.__doc__)
print(list(globals()))
