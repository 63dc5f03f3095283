"""smolagents' DockerExecutor: Jupyter's kernel gateway in a container."""

import os
import socket

from _serve import Base, serve
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import DockerExecutor
from smolagents.utils import AgentError


class Session(Base):
    def start(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        logger = AgentLogger(LogLevel.OFF)
        image = os.environ["PEER_GATEWAY_IMAGE"]
        self._executor = DockerExecutor([], logger, port=port, image_name=image, build_new_image=False)

    def call(self, code):
        try:
            result = self._executor(code)
        except AgentError as error:
            return str(error)
        return result.logs + ("" if result.output is None else str(result.output))

    def install(self, name):
        self._executor.install_packages([name])

    def stop(self):
        self._executor.cleanup()


serve(Session())
