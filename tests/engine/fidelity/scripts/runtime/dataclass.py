from dataclasses import dataclass, field, asdict
@dataclass(order=True)
class P:
    x: int
    tags: list[str] = field(default_factory=list)
print(P(1), asdict(P(2, ["a"])), P(1) < P(2))
