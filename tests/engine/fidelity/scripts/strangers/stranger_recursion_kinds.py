import sys, json
def f(n): return f(n + 1)
try: f(0)
except RecursionError as e: print(e)
class A:
    def __getattr__(self, n): return getattr(self, n + "x")
    def __repr__(self): return f"{self!r}"
try: repr(A())
except RecursionError as e: print(e)
l = []; l.append(l); print(l)
try: json.dumps(l)
except ValueError as e: print(e)
d = None
for _ in range(100000): d = [d]
try: json.dumps(d)
except RecursionError as e: print(e)
sys.setrecursionlimit(60)
def depth(n=1):
    try: return depth(n + 1)
    except RecursionError: return n
print(depth(), sys.getrecursionlimit())
f(0)
