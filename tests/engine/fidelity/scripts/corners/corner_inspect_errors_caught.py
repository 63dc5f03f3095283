import inspect, traceback
for o in (5, len, int, "x", None, [].append, inspect.signature):
    try: inspect.getfile(o); print("found", o)
    except TypeError: traceback.print_exc()
for o in (5, len):
    try: inspect.getsource(o)
    except TypeError as e: print(e)
