"""``docker exec -i CONTAINER python -``: a new interpreter for each call, in a container that stays."""

import os
import subprocess

from _serve import serve


def docker(*arguments, code=None):
    done = subprocess.run(["docker", *arguments], check=False, input=code, capture_output=True, text=True)
    return done.stdout + done.stderr


class Session:
    def start(self):
        self._container = docker("run", "--detach", os.environ["PEER_IMAGE"], "sleep", "100000").strip()

    def call(self, code):
        return docker("exec", "--interactive", self._container, "python3", "-", code=code)

    def install(self, name):
        return docker("exec", self._container, "pip", "install", "--quiet", name)

    def reset(self):
        self.stop()
        self.start()

    def stop(self):
        docker("rm", "--force", "--volumes", self._container)


serve(Session())
