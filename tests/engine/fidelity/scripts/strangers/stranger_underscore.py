print("_" in globals(), "_" in dir(__builtins__), len(dir(__builtins__)) > 150)
print([n for n in dir(__builtins__) if n not in ("display",)][-5:])
_ = 5
print(_)
