import subprocess
print(subprocess.check_output(["echo", "x"]))
subprocess.check_output("echo out; echo err >&2; exit 7", shell=True)
