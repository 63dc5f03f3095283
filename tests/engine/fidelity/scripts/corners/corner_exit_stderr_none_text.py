import sys
print("out")
sys.stderr = None
sys.exit("bye")
