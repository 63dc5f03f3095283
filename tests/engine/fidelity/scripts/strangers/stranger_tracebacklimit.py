import sys
def f(n): return 1 / n if n == 0 else f(n - 1)
sys.tracebacklimit = 2
try: f(5)
except ZeroDivisionError:
    import traceback; traceback.print_exc()
sys.tracebacklimit = 0
f(3)
