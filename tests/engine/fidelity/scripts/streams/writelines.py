import sys
sys.stdout.writelines(["a\n", "b\n"])
sys.stderr.writelines(["c\n"])
