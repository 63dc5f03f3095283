import subprocess, sys
subprocess.run([sys.executable, "-c", "import sys; print('child'); sys.exit('bye')"])
