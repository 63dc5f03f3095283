from __future__ import annotations
def f(a: undefined_type) -> other: pass
print(f.__annotations__)
