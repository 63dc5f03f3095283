import contextvars, threading
v = contextvars.ContextVar("v", default=0)
t = v.set(5)
def f(): print("thread", v.get())
w = threading.Thread(target=f); w.start(); w.join()
c = contextvars.copy_context(); c.run(v.set, 7); print(c[v], v.get(), v, len(c)); v.reset(t); print(v.get())
contextvars.ContextVar("w").get()
