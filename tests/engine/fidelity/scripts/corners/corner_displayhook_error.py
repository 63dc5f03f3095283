import sys, traceback
class A:
    def __repr__(self): raise ValueError("no repr")
try: sys.displayhook(A())
except ValueError: traceback.print_exc()
sys.displayhook(A())
