import multiprocessing as mp
print("executed as", __name__, flush=True)
def f(q): q.put((__name__, f.__module__, f.__qualname__))
if __name__ == "__main__":
    ctx = mp.get_context("forkserver")
    q = ctx.Queue(); p = ctx.Process(target=f, args=(q,)); p.start(); print(q.get()); p.join()
