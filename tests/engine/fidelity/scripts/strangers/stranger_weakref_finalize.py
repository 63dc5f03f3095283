import weakref, gc
class A: pass
a = A()
f = weakref.finalize(a, print, "finalised", 1)
print(f.alive, f.atexit); del a; print(f.alive)
b = A(); b.self = b
g = weakref.finalize(b, print, "cycle"); del b; gc.collect()
h = weakref.finalize(A, print, "never"); h.atexit = False
d = weakref.WeakValueDictionary(); x = A(); d["k"] = x; print(len(d)); del x; print(len(d))
weakref.ref(5)
