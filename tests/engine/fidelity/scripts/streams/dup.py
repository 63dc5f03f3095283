import os
fd = os.dup(1)
os.write(fd, b"dup\n")
os.close(fd)
print("after")
