import sys, warnings
def hook(t, v, tb):
    warnings.warn("in hook")
    warnings.warn("level two", stacklevel=2)
    warnings.warn("level three", stacklevel=3)
sys.excepthook = hook
1 / 0
