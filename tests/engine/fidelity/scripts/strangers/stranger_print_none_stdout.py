import sys
out = sys.stdout
sys.stdout = None
print("nowhere")
sys.stderr = None
import warnings; warnings.warn("nowhere")
sys.stdout = out
print("back")
