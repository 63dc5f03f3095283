class A:
    def __del__(self): raise ValueError("in del")
    def __repr__(self): return "<A>"
A.__del__.__qualname__
a = A()
import sys
sys.unraisablehook = lambda u: print("unraisable", u.exc_type.__name__, u.err_msg, file=sys.stderr)
del a
print("on")
