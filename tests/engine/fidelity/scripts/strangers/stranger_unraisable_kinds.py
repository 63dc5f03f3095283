import sys, weakref, gc
class A: pass
def callback(ref): raise LookupError("in callback")
a = A(); r = weakref.ref(a, callback); del a
def gen():
    try: yield
    finally: raise ValueError("in generator")
g = gen(); next(g); del g
gc.callbacks.append(lambda phase, info: 1 / 0)
gc.collect()
gc.callbacks.clear()
class B:
    def __eq__(self, o): raise TypeError
    def __hash__(self): return 1
print("end")
