import sys
def hook(t, v, tb):
    try: {}["k"]
    except KeyError as e: raise RuntimeError("hook failed") from e
sys.excepthook = hook
raise ValueError("original")
