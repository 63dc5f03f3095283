import multiprocessing
def f(): raise ValueError("in child")
if __name__ == "__main__":
    p = multiprocessing.Process(target=f)
    p.start(); p.join()
    print(p.exitcode)
