import os, signal
for s in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGABRT):
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), s); signal.pause()
    st = os.waitpid(pid, 0)[1]
    print(os.WIFSIGNALED(st), os.WTERMSIG(st))
