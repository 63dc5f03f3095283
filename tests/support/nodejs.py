"""The Node.js that clients and suites of others are run with."""

from __future__ import annotations

import os
import subprocess

from tests.support import CHECKOUT

__all__ = ["node_environment"]

PINNED = CHECKOUT / "tests" / "long" / "node" / "node_modules" / ".bin"
"""Has a `node` on Linux; elsewhere the machine's own is used."""

LEAST = (22, 19)


def node_environment() -> dict[str, str]:
    """This process's environment, with a `node` on its path that is recent enough.

    :raises SystemExit: there is none.
    """
    environment = {**os.environ, "PATH": os.pathsep.join((str(PINNED), os.environ.get("PATH", os.defpath)))}
    try:
        said = subprocess.run(["node", "--version"], env=environment, capture_output=True, text=True, check=True).stdout
        version = tuple(int(part) for part in said.strip().lstrip("v").split("."))
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise SystemExit(f"node --version: {error}") from error
    if version < LEAST:
        raise SystemExit(f"Node.js {'.'.join(map(str, LEAST))} or later is needed, and there is {said.strip()}.")
    return environment
