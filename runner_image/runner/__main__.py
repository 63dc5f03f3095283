"""Entry point of the image: ``python -I -S <this file> supervisor|installer``."""

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # first of all: a handler would let user code interrupt PID 1

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if sys.argv[1:] == ["installer"]:
    from runner.installer import main
else:
    from runner.supervisor import main
main()
