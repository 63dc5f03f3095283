import sys
class W:
    def __init__(self, out): self.out = out
    def write(self, s): return self.out.write(s)
    def flush(self): raise OSError(5, "flush failed")
    def __repr__(self): return "<W>"
sys.stdout = W(sys.stdout)
print("hello")
