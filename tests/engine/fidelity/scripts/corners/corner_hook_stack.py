import sys, traceback, inspect
def hook(t, v, tb):
    traceback.print_stack()
    print([f.function for f in inspect.stack()], sys._getframe().f_back)
sys.excepthook = hook
def f(): raise ValueError("x")
f()
