import sys, os
os.write(1, b"before\n")
sys.stderr.write("err\n")
