import sys
out = sys.stdout
sys.stdout = None
try: sys.displayhook(5)
except Exception as e: print(type(e), e, file=sys.stderr)
del sys.stdout
try: sys.displayhook(5)
except Exception as e: print(type(e), e, file=sys.stderr)
sys.stdout = out
