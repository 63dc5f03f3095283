"""What others offer for running Python code, beside ours: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from typing import Any

import anyio

from mcp_agentrun.engine.docker.discovery import connect
from tests.support import CHECKOUT
from tests.support.sandboxes import open_engine

from .aims import AIMS, measure_aims
from .image import peer_image
from .roster import Bench

FOLDER = CHECKOUT / "build" / "peers"


async def _ensure_image() -> None:
    async with open_engine() as engine:
        await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    aims = commands.add_parser("aims", help="the aims of releases alone; under three minutes")
    aims.add_argument("names", nargs="*", metavar="AIM", help=f"of {', '.join(AIMS)}")
    arguments: Any = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    begun = time.monotonic()
    with contextlib.closing(api):
        anyio.run(_ensure_image)
        with peer_image(api) as image:
            anyio.run(measure_aims, Bench(api, image, FOLDER), arguments.names)
    print(f"{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
