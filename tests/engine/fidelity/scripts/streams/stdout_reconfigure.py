import sys
sys.stdout.reconfigure(errors="replace")
print("\ud800x")
