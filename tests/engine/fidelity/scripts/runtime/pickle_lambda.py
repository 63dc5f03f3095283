import pickle
try:
    pickle.dumps(lambda: 1)
except Exception as e:
    print(type(e).__name__)
