class E(Exception):
    n = 0
    def __str__(self):
        E.n += 1
        return f"call {E.n}"
raise E
