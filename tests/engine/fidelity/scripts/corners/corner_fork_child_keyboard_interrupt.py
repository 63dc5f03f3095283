import os
pid = os.fork()
if pid == 0: raise KeyboardInterrupt
st = os.waitpid(pid, 0)[1]
print(os.WIFSIGNALED(st), os.waitstatus_to_exitcode(st))
