def g():
    try: yield
    finally: raise RuntimeError
it = g(); next(it); del it
print("end")
