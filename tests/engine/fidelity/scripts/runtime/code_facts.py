def f(): pass
print(f.__module__, f.__qualname__, f.__code__.co_firstlineno, f.__code__.co_name)
