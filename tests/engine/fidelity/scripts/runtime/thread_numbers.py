import threading
ts = [threading.Thread(target=print, args=(i,)) for i in range(3)]
for t in ts: t.start(); t.join()
print([t.name for t in ts], threading.current_thread().name, threading.active_count())
