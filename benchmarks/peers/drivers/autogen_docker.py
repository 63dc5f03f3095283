"""AutoGen's DockerCommandLineCodeExecutor: a file and a new interpreter for each call, in a container that stays."""

import asyncio
import os

from _serve import Base, serve
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.docker import DockerCommandLineCodeExecutor


class Session(Base):
    def __init__(self):
        self._loop = asyncio.new_event_loop()

    def start(self):
        self._executor = DockerCommandLineCodeExecutor(image=os.environ["PEER_IMAGE"])
        self._loop.run_until_complete(self._executor.start())

    def call(self, code, language="python"):
        blocks = [CodeBlock(code=code, language=language)]
        done = self._executor.execute_code_blocks(blocks, CancellationToken())
        return self._loop.run_until_complete(done).output

    def install(self, name):
        return self.call(f"pip install {name}", "sh")

    def reset(self):
        self._loop.run_until_complete(self._executor.restart())

    def stop(self):
        self._loop.run_until_complete(self._executor.stop())


serve(Session())
