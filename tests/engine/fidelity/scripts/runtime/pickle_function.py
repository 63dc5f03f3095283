import pickle
def f(x): return x * 2
print(pickle.loads(pickle.dumps(f))(4))
