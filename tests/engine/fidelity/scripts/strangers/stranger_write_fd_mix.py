import os, sys
print("one"); os.write(1, b"two\n"); os.write(2, b"three\n"); sys.stderr.write("four"); sys.stdout.write("five"); os.write(1, b"six\n")
f = os.fdopen(os.dup(1), "w"); f.write("seven\n"); f.close()
with open("/dev/stdout", "w") as g: g.write("eight\n")
with open("/proc/self/fd/2", "w") as g: g.write("nine\n")
print(os.fstat(1).st_ino == os.fstat(2).st_ino, os.isatty(1))
os.close(2)
print("ten")
