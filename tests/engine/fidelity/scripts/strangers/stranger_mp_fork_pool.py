import multiprocessing as mp
def square(x):
    if x == 3: raise ValueError("three")
    return x * x
if __name__ == "__main__":
    ctx = mp.get_context("fork")
    with ctx.Pool(2) as pool:
        print(pool.map(square, [1, 2]))
        try: pool.map(square, [3])
        except ValueError as e: print(type(e.__cause__).__name__, e)
    q = ctx.Queue()
    p = ctx.Process(target=q.put, args=({"k": 1},)); p.start(); print(q.get()); p.join(); print(p.exitcode, p.name)
    print(mp.current_process().name, mp.get_start_method(), mp.active_children())
