import contextlib, io
buffer = io.StringIO()
with contextlib.redirect_stdout(buffer), contextlib.redirect_stderr(buffer):
    print("hidden")
print(len(buffer.getvalue()))
