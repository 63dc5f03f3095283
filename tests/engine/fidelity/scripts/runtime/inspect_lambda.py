import inspect
f = lambda x: x + 1
print(inspect.getsource(f))
