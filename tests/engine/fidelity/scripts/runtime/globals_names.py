a = 1
def f(): pass
print(sorted(n for n in globals() if not n.startswith("__")))
