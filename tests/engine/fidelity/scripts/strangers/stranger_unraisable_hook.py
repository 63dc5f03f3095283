import sys
sys.unraisablehook = lambda u: print("hook", type(u.exc_value).__name__, u.err_msg, type(u.object).__name__)
class A:
    def __del__(self): raise KeyError("gone")
a = A(); del a
sys.unraisablehook = sys.__unraisablehook__
a = A(); del a
print("end")
