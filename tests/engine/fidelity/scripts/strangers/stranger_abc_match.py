from abc import ABC, abstractmethod
class S(ABC):
    @abstractmethod
    def area(self): ...
    @property
    @abstractmethod
    def name(self): ...
class Half(S):
    def area(self): return 1
try: Half()
except TypeError as e: print(e)
class Pt:
    __match_args__ = ("x", "y")
    def __init__(self, x, y): self.x, self.y = x, y
def m(v):
    match v:
        case Pt(0, y): return f"y {y}"
        case Pt(x, 0) if x > 5: return "far"
        case [a, *rest]: return (a, rest)
        case {"k": int(n), **more}: return n, more
        case str() | bytes() as s: return s
        case _: return None
print(m(Pt(0, 1)), m(Pt(9, 0)), m([1, 2, 3]), m({"k": 1, "z": 2}), m(b"q"), m(4))
match Pt(1, 2):
    case Pt(1, 2, 3): pass
