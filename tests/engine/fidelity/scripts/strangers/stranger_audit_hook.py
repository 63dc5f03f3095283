import sys
seen = []
sys.addaudithook(lambda e, a: seen.append(e) if e in ("compile", "exec", "open", "import") else None)
exec("1 + 1")
open("/etc/hostname").close()
print(seen)
