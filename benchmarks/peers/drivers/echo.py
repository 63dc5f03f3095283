"""The floor of what a container can answer: a program that echoes lines, over the engine's attached stream."""

import os

import docker
from _serve import Base, serve

MARK = "print('hello')"
ECHO = "import sys\nfor line in sys.stdin.buffer:\n    sys.stdout.buffer.write(line)\n    sys.stdout.buffer.flush()"


class Session(Base):
    def start(self):
        self._api = docker.APIClient()
        self._container = self._api.create_container(
            os.environ["PEER_IMAGE"],
            ["python3", "-c", ECHO],
            stdin_open=True,
            host_config=self._api.create_host_config(network_mode="none"),
        )["Id"]
        self._stream = self._api.attach_socket(self._container, {"stdin": 1, "stdout": 1, "stream": 1})
        self._api.start(self._container)

    def call(self, code):
        if code != MARK:
            raise RuntimeError("runs no code")
        self._stream._sock.sendall(code.encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            received += self._stream._sock.recv(4096)
        return received[8:].decode()

    def reset(self):
        raise RuntimeError("has no state")

    def stop(self):
        self._stream.close()
        self._api.remove_container(self._container, force=True, v=True)


serve(Session())
