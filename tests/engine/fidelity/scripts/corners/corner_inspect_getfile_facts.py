import inspect
print(inspect.getfile, inspect.getfile.__module__, inspect.getfile.__qualname__, inspect.signature(inspect.getfile), inspect.getfile.__doc__)
print(inspect.getsource(inspect.getfile)[:40])
