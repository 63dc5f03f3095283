import sys, builtins
sys.displayhook([1, "é"]); print(builtins._)
sys.displayhook(None); print(builtins._)
sys.stdout.reconfigure(encoding="ascii"); sys.displayhook("é"); sys.stdout.reconfigure(encoding="utf-8")
print(sys.displayhook is sys.__displayhook__)
