import multiprocessing as mp
OFFSET = 10
def f(q, x): q.put(x + OFFSET)
if __name__ == "__main__":
    c = mp.get_context("spawn")
    q = c.Queue()
    p = c.Process(target=f, args=(q, 5))
    p.start(); print(q.get()); p.join()
    print(p.exitcode)
