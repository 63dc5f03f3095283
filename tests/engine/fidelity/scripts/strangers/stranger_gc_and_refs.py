import gc, sys
print(gc.isenabled(), gc.get_threshold(), gc.garbage, gc.get_debug(), gc.callbacks)
x = object(); print(sys.getrefcount(x))
class A: pass
a = A(); a.a = a; del a
print(gc.collect() >= 1)
