import weakref, sys
class A: pass
class CB:
    def __call__(self, r): raise ValueError("weak")
    def __repr__(self): return "CB()"
a = A()
r = weakref.ref(a, CB())
del a
print("next")
