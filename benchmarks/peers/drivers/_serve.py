"""What each driver does with its peer, as the benchmark asks for it: lines of JSON on stdin, answered on stdout.

A request names a method of the session and its argument. The seconds in an answer are those of the method alone.
"""

import json
import os
import sys
import time

SHOWN = 2000
"""Characters of an output's end that are sent back."""


def serve(session):
    """Answer requests until stdin ends. *session* has the methods start, call, reset and stop."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        method, argument = json.loads(line)
        output, error = "", None
        begun = time.perf_counter()
        try:
            output = str(getattr(session, method)(*([] if argument is None else [argument])) or "")
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"[:SHOWN]
        seconds = time.perf_counter() - begun
        reply = {"seconds": seconds, "output": output[-SHOWN:], "length": len(output), "error": error}
        print(json.dumps(reply), file=answers, flush=True)
    session.end() if hasattr(session, "end") else session.stop()
