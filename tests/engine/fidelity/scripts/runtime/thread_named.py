import threading
def f(): 1 / 0
t = threading.Thread(target=f, name="worker-a")
t.start(); t.join()
