import tempfile, os
with tempfile.NamedTemporaryFile("w+") as f:
    f.write("x"); f.flush()
    print(os.path.getsize(f.name))
