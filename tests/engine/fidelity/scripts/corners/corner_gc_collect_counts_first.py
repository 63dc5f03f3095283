import gc
class Node: pass
for _ in range(3):
    n = Node(); n.self = n
del n
print(gc.collect())
