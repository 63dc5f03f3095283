import sys
def hook(*a):
    print("before")
    sys.__excepthook__(*a)
    print("after")
sys.excepthook = hook
def f(): raise OSError("x")
f()
