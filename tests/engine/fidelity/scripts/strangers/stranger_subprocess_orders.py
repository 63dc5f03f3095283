import subprocess, sys
print("a")
subprocess.run(["sh", "-c", "echo b; echo c >&2; exit 3"])
print("d")
p = subprocess.Popen([sys.executable, "-c", "print('e'); import sys; print('f', file=sys.stderr); print(input())"], stdin=subprocess.PIPE, text=True)
p.communicate("g\n")
print(p.returncode, subprocess.getoutput("echo h; exit 1"), subprocess.call("exit 5", shell=True))
subprocess.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.3)
