class O:
    def __str__(self): raise ValueError("no")
print("a")
raise SystemExit(O())
