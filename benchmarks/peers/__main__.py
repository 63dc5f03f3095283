"""What others offer for running Python code, beside ours: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from mcp_agentrun.engine.docker.discovery import connect
from tests.support import CHECKOUT
from tests.support.sandboxes import open_engine

from .aims import AIMS, measure_aims
from .guard import guard
from .image import peer_image
from .report import draw, page
from .roster import PEERS, Bench
from .run import measure_peers, measure_rest
from .work import KINDS

FOLDER = CHECKOUT / "build" / "peers"


WITHOUT_PEERS = {"plot", "first_answer", "memory", "frame"}
"""Aims for which no image for peers is needed."""


async def _ensure_image() -> None:
    async with open_engine() as engine:
        await engine.ensure_image(lambda stage: print(stage, file=sys.stderr))


def _names(text: str, known: Collection[str]) -> list[str]:
    names = text.replace(",", " ").split() or list(known)
    if unknown := set(names).difference(known):
        sys.exit(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    return names


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="all peers and kinds of work, and the aims")
    peers, kinds = partial(_names, known=PEERS), partial(_names, known=KINDS)
    run.add_argument("--peers", type=peers, default="", help=f"only some, separated by commas: {', '.join(PEERS)}")
    run.add_argument("--kinds", type=kinds, default="", help=f"only some kinds of work: {', '.join(KINDS)}")
    run.add_argument("--share", type=float, default=1.0, help="how much of the usual rounds and time, such as 0.2")
    run.add_argument("--output", type=Path, default=FOLDER / "figures.json", help="file for all samples")
    write = commands.add_parser("page", help="docs/figures.md and its plots from what `run` has written")
    write.add_argument("--input", type=Path, default=FOLDER / "figures.json", help="the file")
    aims = commands.add_parser("aims", help="the aims of releases alone; under three minutes")
    aims.add_argument("names", nargs="*", metavar="AIM", help=f"of {', '.join(AIMS)}")
    commands.add_parser("guard", help="ratios that must stay within their bands; half a minute")
    arguments = parser.parse_args()
    if arguments.command == "aims":
        arguments.names = _names(" ".join(arguments.names), AIMS)
    return arguments


async def _run(bench: Bench, arguments: Any) -> bool:
    """Whether all is as it must be."""
    if arguments.command == "guard":
        return await guard(bench)
    if arguments.command == "aims":
        await measure_aims(bench, arguments.names)
        return True
    found = await measure_peers(bench, arguments.peers, arguments.kinds, arguments.share)
    arguments.output.write_text(_as_text(found))
    if set(arguments.kinds) == set(KINDS):
        arguments.output.write_text(_as_text(found | await measure_rest(bench)))
    return True


def _as_text(found: dict[str, Any]) -> str:
    """JSON with a line for each figure of a peer."""
    return (
        re.sub(r"\[[^][{}]*\]", lambda each: " ".join(each[0].split()), json.dumps(found, indent=1, default=asdict))
        + "\n"
    )


def _write_page(file: Path) -> None:
    found = json.loads(file.read_text())
    docs = CHECKOUT / "docs"
    (docs / "figures.json").write_text(_as_text(found))
    (docs / "figures.md").write_text(page(found))
    if "curves" in found:
        (docs / "pictures" / "figures.svg").write_bytes(anyio.run(draw, found))


def main() -> None:
    arguments = _arguments()
    if arguments.command == "page":
        _write_page(arguments.input)
        return
    api, tried = connect()
    if api is None:
        sys.exit(f"no container engine: {tried}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that containers and images are removed
    with contextlib.closing(api), contextlib.ExitStack() as stack:
        anyio.run(_ensure_image)
        aims: Any = getattr(arguments, "names", ())
        needs_none = arguments.command == "guard" or (aims and WITHOUT_PEERS.issuperset(aims))
        image = "" if needs_none else stack.enter_context(peer_image(api))
        is_right = anyio.run(_run, Bench(api, image, FOLDER), arguments)
    print(f"{time.monotonic() - begun:.0f} s in all")
    sys.exit(not is_right)


if __name__ == "__main__":
    main()
