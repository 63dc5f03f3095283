from typing import NamedTuple
from collections import namedtuple
class P(NamedTuple):
    x: int
    y: int = 2
print(P(1), namedtuple("Q", "a b")(1, 2))
