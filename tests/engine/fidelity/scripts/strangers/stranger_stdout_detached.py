import sys, io
raw = sys.stdout.detach()
sys.stdout = io.TextIOWrapper(raw, encoding="latin-1", errors="replace", newline="\r\n", write_through=True)
print("é ü €")
sys.stdout.flush()
