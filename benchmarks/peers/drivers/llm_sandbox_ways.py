"""llm-sandbox: a session, one of its pool, or its interactive one, with an image that has all packages."""

import os
import sys

from _serve import Base, serve
from llm_sandbox import InteractiveSandboxSession, SandboxSession
from llm_sandbox.pool import PoolConfig, create_pool_manager

IMAGE = os.environ["PEER_IMAGE"]


class Session(Base):
    """A container for the session; without the set-up of an environment, which the image has."""

    def start(self):
        self._session = self._new()
        self._session.open()

    def _new(self):
        return SandboxSession(lang="python", image=IMAGE, skip_environment_setup=True)

    def call(self, code):
        result = self._session.run(code)
        return result.stdout + result.stderr

    def install(self, name):
        raise RuntimeError("not supported with skip_environment_setup")

    def stop(self):
        self._session.close()


class Pooled(Session):
    """A container of a pool of three, which have an environment."""

    _pool = None

    def _new(self):
        if self._pool is None:
            config = PoolConfig(max_pool_size=3, min_pool_size=3, enable_prewarming=True)
            self._pool = create_pool_manager(backend="docker", config=config, lang="python", image=IMAGE)
        return SandboxSession(lang="python", pool=self._pool)

    def install(self, name):
        self._session.install([name])

    def end(self):
        self.stop()
        self._pool.close()


class Interactive(Session):
    """An IPython that stays, which `open` installs."""

    def _new(self):
        return InteractiveSandboxSession(lang="python", image=IMAGE)

    def install(self, name):
        return self.call(f"%pip install {name}")


serve({"session": Session, "pool": Pooled, "interactive": Interactive}[sys.argv[1]]())
