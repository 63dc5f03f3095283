"""What each driver does with its peer, as the benchmark asks for it: lines of JSON on stdin, answered on stdout.

A request names a method of the session and its argument. The seconds in an answer are those of the method alone.
"""

import json
import os
import subprocess
import sys
import time

SHOWN = 2000
"""Characters of an output's end that are sent back."""


class Base:
    """A session, in which *call* runs code. Some have an *install*, too."""

    def start(self):
        pass

    def reset(self):
        self.stop()
        self.start()

    def stop(self):
        pass

    def end(self):
        self.stop()


def docker(*arguments):
    """What a command of the engine's client prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def start_container():
    """Return the id of a new container of the peers' image, which stays."""
    return docker("run", "--detach", os.environ["PEER_IMAGE"], "sleep", "100000")


def remove_container(container):
    docker("rm", "--force", "--volumes", container)


def serve(session):
    """Answer requests until stdin ends."""
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
    session.end()
