import subprocess
print("one")
subprocess.run(["echo", "two"])
print("three")
subprocess.run("echo four; echo five >&2; echo six", shell=True)
