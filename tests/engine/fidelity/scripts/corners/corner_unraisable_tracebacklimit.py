import sys
sys.tracebacklimit = 1
def deep(n): return 1 / n if n == 0 else deep(n - 1)
class A:
    def __del__(self): deep(4)
a = A(); del a
sys.tracebacklimit = 0
a = A(); del a
