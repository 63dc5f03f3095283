import sys
def hook(kind, value, tb): 1 / 0
sys.excepthook = hook
raise ValueError("original")
