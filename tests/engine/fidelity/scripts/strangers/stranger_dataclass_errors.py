from dataclasses import dataclass, field
@dataclass
class A:
    x: int
    y: int = 0
try: A()
except TypeError as e: print(e)
try:
    @dataclass
    class B:
        x: list = []
except ValueError as e: print(e)
@dataclass
class C(A):
    z: int
