class A:
    def __del__(self): raise ValueError
class B:
    def __del__(self): assert 0
class C:
    def __del__(self): raise KeyboardInterrupt
for k in (A, B, C):
    x = k(); del x
