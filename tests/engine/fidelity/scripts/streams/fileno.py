import sys
print(sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno())
