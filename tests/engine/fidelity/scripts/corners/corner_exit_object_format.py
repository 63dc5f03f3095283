class O:
    def __format__(self, spec): return "formatted"
    def __str__(self): return "stringed"
raise SystemExit(O())
