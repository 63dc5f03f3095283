import os, sys, importlib
open("helper_mod.py", "w").write("def boom():\n    raise RuntimeError('from a module')\nVALUE = 3\nprint('imported as', __name__)\n")
sys.path.insert(0, os.getcwd())
import helper_mod
print(helper_mod.VALUE, os.path.basename(helper_mod.__file__), importlib.reload(helper_mod) is helper_mod)
helper_mod.boom()
