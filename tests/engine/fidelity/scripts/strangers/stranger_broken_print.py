class Bad:
    def __str__(self): raise RuntimeError("no text")
print("a", Bad(), "b")
