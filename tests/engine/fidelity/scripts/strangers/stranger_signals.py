import signal, os, time, sys
def handler(n, frame):
    print("signal", signal.Signals(n).name, frame.f_code.co_name, frame.f_back)
for s in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
    signal.signal(s, handler); os.kill(os.getpid(), s)
signal.signal(signal.SIGALRM, lambda *a: (_ for _ in ()).throw(TimeoutError("alarm")))
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE), signal.getsignal(signal.SIGTERM).__name__)
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(5)
