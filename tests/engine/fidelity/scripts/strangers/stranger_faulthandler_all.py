import faulthandler, sys, threading
e = threading.Event(); go = threading.Event()
def waiting(): go.set(); e.wait()
t = threading.Thread(target=waiting); t.start(); go.wait()
def f(): faulthandler.dump_traceback(sys.stdout, all_threads=False)
f()
e.set(); t.join()
print(faulthandler.is_enabled())
