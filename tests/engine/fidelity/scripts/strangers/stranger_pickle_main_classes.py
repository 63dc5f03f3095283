import pickle, copy, dataclasses, enum, typing, collections
@dataclasses.dataclass(order=True, slots=True)
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)
class Color(enum.Enum):
    RED = 1
class Flag(enum.Flag):
    A = 1; B = 2
class NT(typing.NamedTuple):
    a: int; b: str = "x"
T = collections.namedtuple("T", "p q")
for v in (Point(1, [2]), Color.RED, Flag.A | Flag.B, NT(1), T(1, 2)):
    for protocol in range(6):
        assert pickle.loads(pickle.dumps(v, protocol)) == v
    print(v, copy.deepcopy(v) == v)
print(dataclasses.asdict(Point(1)), dataclasses.replace(Point(1), x=5), Point(1) < Point(2))
class Local:
    class Inner: pass
print(pickle.loads(pickle.dumps(Local.Inner)) is Local.Inner, Local.Inner.__qualname__, Local.__module__)
def outer():
    class Hidden: pass
    return Hidden()
pickle.dumps(outer())
