import sys
def hook(t, v, tb): raise
sys.excepthook = hook
raise ValueError("original")
