import sys
def hook(*a):
    print("hook")
    sys.exit(12)
sys.excepthook = hook
raise ValueError
