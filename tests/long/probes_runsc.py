"""The probes under gVisor, on an engine of their own: ``python -m tests.long.probes_runsc [pytest arguments]``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import anyio

from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.engine.docker.engine import DockerEngine
from mcp_agentrun.engine.docker.image import ImageRecipe
from tests.support.private_engine import private_engine


async def _image() -> str:
    engine = DockerEngine(recipe=ImageRecipe())
    try:
        return await engine.ensure_image(lambda _: None)
    finally:
        await engine.aclose()


def main() -> int:
    if shutil.which("runsc") is None:
        sys.exit("runsc is not installed: Debian has it as the package runsc")
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    with private_engine(anyio.run(_image), api) as engine:
        env = {**os.environ, "DOCKER_HOST": engine.url, "AGENTRUN_TEST_RUNTIME": "runsc"}
        command = [sys.executable, "-m", "pytest", "--timeout", "0", "tests/engine/test_probes.py", *sys.argv[1:]]
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
