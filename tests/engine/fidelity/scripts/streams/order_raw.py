import os, sys
for i in range(30):
    print("text", i)
    os.write(1, b"raw\n")
    os.write(2, b"raw err\n")
    sys.stdout.buffer.write(b"buffer\n")
