"""Entry point of the image: ``python -I -S <this file> supervisor|installer|relay|copy``.

In a Pod the first two are followed by the limits for open files, the size of a file, and processes; the last one by
what `runner.copies` is to do.
"""

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # first of all: a handler would let user code interrupt PID 1

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if sys.argv[1:] == ["relay"]:
    from runner.pod import relay as main
elif sys.argv[1:2] == ["copy"]:
    from runner.copies import main as copy

    copy(*sys.argv[2:])
elif sys.argv[1:2] == ["installer"]:
    from runner.installer import main
else:
    from runner.supervisor import main
if sys.argv[2:]:
    from runner import pod

    pod.set_limits(*map(int, sys.argv[2:]))
    pod.forget_cluster()
    pod.accept_streams()
main()
