import typing, sys
from typing import get_type_hints, ForwardRef
class A:
    x: "B"
    y: typing.Optional["A"] = None
    def f(self, q: "list[A]") -> "B": ...
class B: pass
print(get_type_hints(A), get_type_hints(A.f), A.__annotations__)
z: int = 5
w: "B"
print(__annotations__, get_type_hints(sys.modules["__main__"]))
type Alias[T] = list[T]
print(Alias, Alias.__value__, Alias.__module__, typing.TypeVar("T"), typing.NewType("N", int).__module__)
class P(typing.Protocol):
    def m(self) -> int: ...
try: isinstance(1, P)
except TypeError as e: print(e)
get_type_hints(type("C", (), {"__annotations__": {"a": "Missing"}}))
