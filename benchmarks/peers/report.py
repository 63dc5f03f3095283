"""The page with what `run` has measured, ``docs/figures.md``, and its plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_agentrun.sandbox import AsyncSandbox

from .roster import OURS

__all__ = ["draw", "page"]

Json = dict[str, Any]

_TABLES: Mapping[str, Mapping[str, str]] = {
    "Calls": {
        "hello": "`print('hello')`",
        "value": "a value",
        "exception": "an exception",
        "reset": "reset",
        "1 MB of output": "1 MB in 20,000 lines",
        "10 MB of output": "10 MB in 200,000 lines",
    },
    "Data packages": {
        "import numpy, fresh": "import numpy, fresh",
        "then pandas": "then pandas",
        "then matplotlib": "then matplotlib",
        "all three again": "all three again",
    },
    "Plots and data": {
        "plot, fresh": "a plot, fresh",
        "plot, later": "later",
        "a call, data packages imported": "a call, packages imported",
        "a call, 100 MB frame alive": "the same, a 100 MB frame alive",
    },
    "Starting": {
        "first answer, process included": "first answer, its process included",
        "start to initialize": "start to `initialize`",
        "first answer, from a pool": "from a pool",
        "install requests, cold": "install requests, cold",
        "install requests, warm": "warm",
    },
    "Memory": {
        "memory of an idle session": "an idle session",
        "memory, data packages imported": "with the data packages imported",
    },
}

_INTRODUCTION = Path(__file__).with_name("introduction.md")


def page(found: Json) -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION.read_text("utf-8"), _machine(found["machine"])]
    parts += [_aims(found["aims"])] if "aims" in found else []
    parts.append(_peers(found["peers"]))
    notes: list[str] = []
    parts += [_table(title, columns, found, notes) for title, columns in _TABLES.items()]
    parts.append("## Notes\n\n" + "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1)) + "\n")
    parts += [_sizes(found["curves"])] if "curves" in found else []
    parts += [_profile(found["profile"])] if "profile" in found else []
    return "\n".join(parts)


def _machine(machine: Json) -> str:
    return (
        f"Measured on {machine['date']}: {machine['cores']} cores with a load of {machine['load']:g} before, "
        f"Linux {machine['kernel']}, Docker Engine {machine['engine']}, Python {machine['python']}.\n"
    )


def _rows(rows: Sequence[Sequence[str]], numeric: bool = True) -> str:
    head, *rest = rows
    line = ["---", *(["---:" if numeric else "---"] * (len(head) - 1))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, line, *rest))


def _aims(aims: Sequence[Json]) -> str:
    rows = [["", "aim", "before", "now", ""]]
    rows += [
        [aim["name"], aim["aim"], aim["before"] or "not measured", aim["now"], "yes" if aim["is_reached"] else "no"]
        for aim in aims
    ]
    return "## Aims\n\n" + _rows(rows, numeric=False)


def _peers(peers: Json) -> str:
    rows = [["", "version", "as it is used here"]]
    for peer in peers.values():
        failed = f"; does not run here: {_cut(peer['failed'])}" if "failed" in peer else ""
        rows.append([peer["name"], peer["version"], f"{peer['configuration']}{failed}"])
    return "## Peers\n\n" + _rows(rows, numeric=False)


def _cut(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return line if len(line) <= 160 else f"{line[:157]}..."


def _table(title: str, columns: Mapping[str, str], found: Json, notes: list[str]) -> str:
    columns = {name: column for name, column in columns.items() if name in found["figures"]}
    units = [found["figures"][name]["unit"] for name in columns]
    rows = [["", *(f"{column}, {unit}" for column, unit in zip(columns.values(), units, strict=True))]]
    for key, peer in found["peers"].items():
        figures = [found["figures"][name].get(key, {"reason": "does not run here"}) for name in columns]
        if any("median" in figure for figure in figures):
            cells = [_cell(figure, notes) for figure in figures]
            rows.append([f"**{OURS}**" if key == "ours" else peer["name"], *cells])
    return f"## {title}\n\n" + _rows(rows)


def _cell(figure: Json, notes: list[str]) -> str:
    note = figure.get("reason") or figure.get("note", "")
    if note == "not applicable":
        return ""
    if note and _cut(note) not in notes:
        notes.append(_cut(note))
    mark = f" ({notes.index(_cut(note)) + 1})" if note else ""
    if "reason" in figure:
        return f"-{mark}"
    ratio = "" if figure["ratio"] in (None, 1.0) else f", {_short(figure['ratio'])} x"
    return f"{_short(figure['median'])}{ratio}{mark}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def _sizes(curves: Json) -> str:
    sessions = curves["sessions"]
    rows = [["", "sessions", "a call, the others idle, ms", "calls per second, all at once", "opening all, s"]]
    for key, points in sessions["peers"].items():
        for (count, taken), (_, rate), (_, opening) in zip(
            points, sessions["calls per second"][key], sessions["seconds to open"][key], strict=True
        ):
            rows.append([key, str(count), _short(taken), f"{rate:g}", f"{opening:g}"])
    return (
        "## What sizes cost\n\n![Milliseconds of a call against the number of sessions, the size of the state, of the "
        "output and of the code](pictures/figures.svg)\n\n" + _rows(rows)
    )


def _profile(profile: Json) -> str:
    rows = [["", "µs"], *([name, f"{taken:,}"] for name, taken in profile.items() if name != "elapsed")]
    return (
        "## One warm call\n\nProcessor time of each process for one `print('hello')` over stdio, in a burst of them. "
        f"From the call to its answer it took {profile['elapsed']:,} µs.\n\n" + _rows(rows)
    )


_DRAW = """
import json
import matplotlib.pyplot as plt
plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "figures", "font.size": 9})
curves = json.loads(CURVES)
figure, axes = plt.subplots(2, 2, figsize=(8, 5.5), layout="constrained")
for axis, (name, curve) in zip(axes.flat, curves.items()):
    for peer, points in curve["peers"].items():
        axis.plot(*zip(*points), marker="o", markersize=3, label=peer)
    axis.set(title=name, xlabel=curve["unit"], ylabel="ms", yscale="log")
    axis.set_xscale("linear" if name == "state" else "log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
figure.savefig("figures.svg", metadata={"Date": None})
"""


async def draw(found: Json) -> bytes:
    """The curves as SVG, drawn in a sandbox."""
    async with AsyncSandbox() as sandbox:
        result = await sandbox.run(_DRAW.replace("CURVES", repr(json.dumps(found["curves"]))))
        if result.outcome != "ok":
            raise RuntimeError(result.text)
        return await sandbox.files.read("figures.svg")
