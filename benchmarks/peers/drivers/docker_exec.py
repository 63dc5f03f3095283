"""``docker exec -i CONTAINER python -``: a new interpreter for each call, in a container that stays."""

import subprocess

from _serve import Base, docker, remove_container, serve, start_container


class Session(Base):
    def start(self):
        self._container = start_container()

    def call(self, code):
        command = ["docker", "exec", "--interactive", self._container, "python3", "-"]
        done = subprocess.run(command, check=False, input=code, capture_output=True, text=True)
        return done.stdout + done.stderr

    def install(self, name):
        return docker("exec", self._container, "pip", "install", "--quiet", name)

    def stop(self):
        remove_container(self._container)


serve(Session())
