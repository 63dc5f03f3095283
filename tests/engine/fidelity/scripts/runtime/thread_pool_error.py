from concurrent.futures import ThreadPoolExecutor
def f(x): return 1 / x
with ThreadPoolExecutor(1) as pool:
    pool.submit(f, 0).result()
