import sys
sys.setrecursionlimit(150)
def f(n):
    return f(n + 1)
f(0)
