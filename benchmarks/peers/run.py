"""The whole measurement: all peers, all kinds of work."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import Any

from mcp_agentrun import __version__
from mcp_agentrun.engine.docker.image import ImageRecipe

from .aims import measure_aims
from .image import containers_of, remove_containers
from .roster import PEERS, Bench
from .scaling import call_profile, curves
from .sessions import Session, reason_of
from .work import KINDS, Cell, Subject, take_turns

__all__ = ["measure_peers", "measure_rest"]


async def measure_peers(bench: Bench, peers: Sequence[str], kinds: Sequence[str], share: float) -> dict[str, Any]:
    """Give *kinds* of work to *peers* in turns; what was measured, as JSON has it.

    :param share: how much of the usual rounds and time.
    """
    machine = _machine(bench)
    failed: dict[str, str] = {}
    figures: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        subjects: list[Subject] = []
        for key in ("ours", *(key for key in peers if key != "ours")):
            begun = time.monotonic()
            try:
                session: Session = await stack.enter_async_context(PEERS[key].open(bench))
                subjects.append(Subject(key, PEERS[key], session, bench))
                print(f"{key}: opened in {time.monotonic() - begun:.1f} s", flush=True)
            except Exception as error:
                failed[key] = reason_of(error)
                print(f"{key}: {failed[key]}", flush=True)
        # Peers wait up to ten seconds for each container to end.
        stack.callback(lambda: remove_containers(bench.api, containers_of(bench.api, bench.image)))
        for kind in kinds:
            begun = time.monotonic()
            for name, cells in (await take_turns(kind, subjects, share)).items():
                ours = cells["ours"] if any(cells["ours"].samples) else cells.get("library", cells["ours"])
                figures[name] = {"unit": KINDS[kind].unit} | {
                    subject.key: _figure(cells[subject.key], ours, subject.notes.get(name, "")) for subject in subjects
                }
                _show(name, figures[name])
            print(f"({kind}: {time.monotonic() - begun:.0f} s)", flush=True)
    return {"machine": machine, "peers": _described(peers, failed), "figures": figures}


async def measure_rest(bench: Bench) -> dict[str, Any]:
    """The aims, what sizes cost, and the profile of a call; what fails is printed and left out."""
    found: dict[str, Any] = {}
    for name, measure in (("aims", measure_aims), ("curves", curves), ("profile", call_profile)):
        try:
            found[name] = await measure(bench)
        except Exception:
            traceback.print_exc()
    return found


def _figure(cell: Cell, ours: Cell, note: str) -> dict[str, Any]:
    # The first round counts only where a peer is so slow that there is no other.
    pairs = [(a, b) for a, b in zip(cell.samples, ours.samples, strict=True) if a is not None]
    pairs = pairs[1:] or pairs
    samples = [a for a, _ in pairs]
    if cell.reason or not samples:
        return {"reason": cell.reason or note or "not applicable"}
    ratios = [a / b for a, b in pairs if b]
    return {
        "median": _rounded(statistics.median(samples)),
        "least": _rounded(min(samples)),
        "most": _rounded(max(samples)),
        "ratio": _rounded(statistics.median(ratios)) if ratios else None,
        "samples": [None if sample is None else _rounded(sample) for sample in cell.samples],
        **({"note": note} if note else {}),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _show(name: str, figures: Mapping[str, Any]) -> None:
    print(f"{name}, {figures['unit']}")
    for key, figure in figures.items():
        if "reason" in figure:
            print(f"    {key}: {figure['reason']}")
        elif key != "unit":
            spread = f"{figure['least']:g} to {figure['most']:g}"
            print(f"    {key}: {figure['median']:g} ({spread}), {figure['ratio']} x {figure.get('note', '')}")
    sys.stdout.flush()


def _described(peers: Sequence[str], failed: Mapping[str, str]) -> dict[str, Any]:
    return {
        key: {
            "name": PEERS[key].name,
            "version": PEERS[key].version or (__version__ if key in ("ours", "library") else ""),
            "configuration": PEERS[key].configuration,
            **({"failed": failed[key]} if key in failed else {}),
        }
        for key in PEERS
        if key in peers or key == "ours"
    }


def _machine(bench: Bench) -> dict[str, Any]:
    engine = bench.api.version()
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "engine": engine["Version"],
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "image": ImageRecipe().tag,
    }
