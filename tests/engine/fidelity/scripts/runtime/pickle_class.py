import pickle
class P:
    def __init__(self, x): self.x = x
    def __eq__(self, o): return self.x == o.x
print(pickle.loads(pickle.dumps(P(5))) == P(5), b"__main__" in pickle.dumps(P(1)))
