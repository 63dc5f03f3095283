import sys
sys.stdout.close()
try:
    print("lost")
except ValueError as e:
    sys.stderr.write(f"{e}\n")
sys.stderr.write("still\n")
