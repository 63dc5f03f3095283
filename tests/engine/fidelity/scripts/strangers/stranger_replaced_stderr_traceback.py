import sys, io
sys.stderr = buffer = io.StringIO()
try:
    raise ValueError("x")
except ValueError:
    import traceback; traceback.print_exc()
print(len(buffer.getvalue().splitlines()), buffer.getvalue())
sys.stderr = sys.stdout
raise KeyError("to stdout")
