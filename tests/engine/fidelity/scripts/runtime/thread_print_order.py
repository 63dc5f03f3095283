import threading
lock = threading.Lock()
def f(i):
    with lock: print("thread", i)
ts = [threading.Thread(target=f, args=(i,)) for i in range(5)]
for t in ts: t.start(); t.join()
