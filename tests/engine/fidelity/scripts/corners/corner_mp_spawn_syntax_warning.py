import multiprocessing as mp
pattern = "\d"
def f(): print(len(pattern))
if __name__ == "__main__":
    p = mp.get_context("spawn").Process(target=f); p.start(); p.join(); print(p.exitcode)
