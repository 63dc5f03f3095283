"""AgentRun's class on a container that is ready, as its documentation starts one."""

import os
import secrets

import docker
from _serve import Base, serve
from agentrun import AgentRun


class Session(Base):
    def start(self):
        """Start the container, whose part is docker compose's in its documentation, and open the class on it."""
        self._client = docker.from_env()
        self._container = self._client.containers.run(
            os.environ["PEER_IMAGE"],
            ["sleep", "100000"],
            name=f"agentrun-{secrets.token_hex(6)}",
            working_dir="/code",
            detach=True,
            security_opt=["no-new-privileges:true"],
        )
        self._runner = AgentRun(
            self._container.name,
            cached_dependencies=["numpy", "pandas", "matplotlib"],
            cpu_quota=100_000,
            memory_limit="1g",
            memswap_limit="1g",
            default_timeout=100,
        )

    def call(self, code):
        return self._runner.execute_code_in_container(code)

    def install(self, name):
        return self.call(f"import {name}")  # after which it is uninstalled

    def stop(self):
        self._container.remove(force=True, v=True)


serve(Session())
