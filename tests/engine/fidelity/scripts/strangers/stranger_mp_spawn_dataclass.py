import multiprocessing as mp
from dataclasses import dataclass
@dataclass
class P:
    x: int
def f(p): return P(p.x + 1)
if __name__ == "__main__":
    mp.set_start_method("spawn")
    with mp.Pool(1) as pool: print(pool.map(f, [P(1), P(2)]))
    p = mp.Process(target=f, args=(3,), name="bad"); p.start(); p.join(); print(p.exitcode)
