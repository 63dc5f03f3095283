import multiprocessing
def f(x): print("child", x, flush=True)
if __name__ == "__main__":
    p = multiprocessing.Process(target=f, args=(5,))
    p.start(); p.join()
    print(p.exitcode)
