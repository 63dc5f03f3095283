import os
pid = os.fork()
if pid == 0:
    os.write(1, b"child\n")
    os._exit(3)
print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
