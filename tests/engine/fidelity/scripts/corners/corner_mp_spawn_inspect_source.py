import multiprocessing as mp, inspect
def f():
    print(inspect.getsource(f))
class A:
    x = 1
def g(): print(inspect.getsource(A))
if __name__ == "__main__":
    for t in (f, g):
        p = mp.get_context("spawn").Process(target=t); p.start(); p.join(); print(p.exitcode)
