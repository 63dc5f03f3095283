from concurrent.futures import ProcessPoolExecutor
def f(x): return x + 1
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(list(pool.map(f, range(4))))
