import copy
class N:
    def __init__(self): self.me = self
n = copy.deepcopy(N())
print(n.me is n)
