import sys
sys.stderr.write("no newline")
print(" then out")
