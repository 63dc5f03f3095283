import enum
class C(enum.IntEnum):
    A = 1
    B = enum.auto()
print(list(C), C(2), repr(C.A), C.A + 1, C["B"], C.A.__module__, C)
@enum.verify(enum.UNIQUE)
class D(enum.StrEnum):
    X = enum.auto()
print(D.X, f"{D.X:>5}")
try: C.A = 5
except AttributeError as e: print(e)
try: C(9)
except ValueError as e: print(e)
class E(C): pass
