import io
f = io.StringIO()
print("into", file=f)
print(repr(f.getvalue()))
