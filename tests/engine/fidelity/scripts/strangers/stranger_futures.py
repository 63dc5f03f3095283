from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor, as_completed
import multiprocessing
def f(x):
    if x > 1: raise RuntimeError(f"bad {x}")
    return x
with ThreadPoolExecutor(1) as ex:
    fs = [ex.submit(f, i) for i in range(3)]
print([repr(x.exception()) for x in fs])
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as ex:
    print(list(ex.map(f, [0, 1])))
    ex.submit(f, 5).result()
