"""Examples of libraries and public notebooks in sandboxes, beside plain Python and a Jupyter kernel.

``python -m tests.long.examples [--count N] [--at-once N] [--out FILE] [folder ...]``. Fetches the source distributions
that have the examples from the configured index, and takes the notebooks in them, or those in the folders given and
the folders' examples. Both sides run the same files of the same packages. Appends a JSON line per file to FILE, goes on
where it was interrupted, and ends with a table of what differs; fails if that is not explained for more than 1 %.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from docker import APIClient

from mcp_agentrun.engine import PACKAGES
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.errors import UnavailableError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings

from ..support.sandboxes import open_sandbox

SOURCES = ("matplotlib", "scikit-learn", "scikit-image", "networkx", "statsmodels", "bokeh")
PACKAGES_USED = (*SOURCES, "seaborn", "scipy", "sympy", "plotly", "requests")
HERE = Path(__file__).parent
REASONS = HERE / "reasons.tsv"
BUILD = Path("build/examples")
TIMEOUT = 60.0
NOTEBOOK = 300.0
"""Seconds after which no other cell of a notebook is begun."""

NOISE = (
    (r"\x1b\[[0-9;]*[A-Za-z]", ""),
    (r"(?: object)? at 0x[0-9a-fA-F]{4,}", " at 0x"),  # IPython leaves the word out
    (r"\b0x[0-9a-fA-F]{4,}\b", "0x"),
    (r"(?m)^<Figure size \S+ with \d+ Axes>$", ""),  # beside the picture
    (r"(?m)^\S*(?:<run-\d+>|<cell>|\.py):(\d+): (?=\w*Warning|\w+: )", r"\1: "),
    (r"/tmp/(?:ipykernel_\d+|home|tmp\w+)\S*", "/tmp"),
    (r"\s*[\w.]*\d+%\|.*", ""),  # tqdm
    (r"(?m)[ \t]+$", ""),
)
"""What never is the same twice, or says where the file is."""


class Unit(NamedTuple):
    """An example file, or a notebook with several cells."""

    name: str
    cells: list[str]
    is_notebook: bool


class Difference(NamedTuple):
    """How what the sandbox did differs from the reference."""

    verdict: str
    detail: str = ""


# -- what there is to run


def fetch(name: str) -> Path:
    """The unpacked source distribution of *name*. Its build is left to fail: only its files are wanted."""
    folder = BUILD / name
    if not folder.exists():
        folder.mkdir(parents=True)
        options = ["--no-clean", "--no-build-isolation", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, name]
        subprocess.run(command, env={**os.environ, "TMPDIR": str(folder.absolute())}, capture_output=True, check=False)
    return folder


def spread(paths: Iterable[Path], most: int) -> list[Path]:
    """At most *most* of *paths*, from all over."""
    sorted_ = sorted(paths)
    step = max(1.0, len(sorted_) / max(1, most))
    return [sorted_[int(at * step)] for at in range(min(most, len(sorted_)))]


def examples_of(folder: Path, label: str, most: int) -> Iterator[Unit]:
    """Example files below *folder*."""
    found = (
        path
        for path in folder.rglob("*.py")
        if {"examples", "galleries"} & set(path.parts[len(folder.parts) :])
        and "archive" not in path.parts  # for which no current version is meant
        and not path.name.startswith(("_", "test_", "conf"))
    )
    for path in spread(found, most):
        yield Unit(f"{label}/{path.parent.name}/{path.name}", [path.read_text("utf-8", "replace")], False)


def notebooks_of(folder: Path, label: str, most: int) -> Iterator[Unit]:
    """Notebooks below *folder*."""
    for path in spread(folder.rglob("*.ipynb"), most):
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
        cells = content.get("cells") or [cell for sheet in content.get("worksheets", []) for cell in sheet["cells"]]
        code = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells if cell["cell_type"] == "code"]
        yield Unit(f"{label}/{path.name}", [cell for cell in code if cell.strip()], True)


def units(folders: list[Path], count: int, notebooks: int) -> list[Unit]:
    """All that is to be run."""
    sources = [(fetch(name), name) for name in SOURCES]
    found = [unit for folder, name in sources for unit in examples_of(folder, name, count)]
    for folder in folders:
        found += list(examples_of(folder, folder.name, count))
    places = [*sources, *((folder, folder.name) for folder in folders)]
    return found + [unit for folder, name in places for unit in notebooks_of(folder, name, notebooks)]


# -- both sides


@asynccontextmanager
async def open_sides(engine: APIClient) -> AsyncGenerator[tuple[AsyncSandbox, list[str]]]:
    """A sandbox with the packages, and the command that starts the reference with the same files of them."""
    settings = Settings(max_timeout=TIMEOUT, auto_install="off", install_timeout=900)
    async with open_sandbox(settings) as sandbox, open_sandbox(settings) as other:
        while True:
            try:
                folder = (await sandbox.install(*PACKAGES_USED)).folder
                break
            except UnavailableError:  # until the image is built
                await anyio.sleep(1)
        kernel = (await other.install(*PACKAGES_USED, "ipykernel")).folder
        container = engine.containers(filters={"label": f"mcp-agentrun.sandbox={sandbox.id}"})[0]
        volume = next(mount["Name"] for mount in container["Mounts"] if mount["Destination"] == PACKAGES)
        path = f"{PACKAGES}/{folder}:{PACKAGES}/{kernel}:/reference"
        # fmt: off
        yield sandbox, [
            "docker", "run", "--rm", "--interactive", "--network=none",
            f"--volume={volume}:{PACKAGES}:ro", f"--volume={HERE.absolute()}:/reference:ro",
            "--tmpfs=/tmp:mode=1777,exec",
            "--env=HOME=/tmp", "--env=LANG=C.UTF-8", "--env=OMP_NUM_THREADS=1", "--env=OPENBLAS_NUM_THREADS=1",
            f"--env=PYTHONPATH={path}", "--entrypoint=/opt/venv/bin/python", container["ImageID"],
            "/reference/reference.py",
        ]
        # fmt: on


async def in_reference(command: list[str], unit: Unit) -> list[dict[str, Any]]:
    """What plain Python or a Jupyter kernel makes of *unit*: text, pictures and error of each cell."""
    asked = {"cells": unit.cells, "kernel": unit.is_notebook, "timeout": TIMEOUT, "seconds": NOTEBOOK}
    done = await anyio.run_process(command, input=json.dumps(asked).encode())
    return json.loads(done.stdout)


async def in_sandbox(sandbox: AsyncSandbox, unit: Unit) -> list[dict[str, Any]]:
    """What a sandbox makes of *unit*."""
    await sandbox.reset(keep_packages=True)
    found: list[dict[str, Any]] = []
    end = anyio.current_time() + NOTEBOOK
    for cell in unit.cells:
        if anyio.current_time() > end:
            break
        result = await sandbox.run(cell, timeout=TIMEOUT)
        error = None if result.outcome == "ok" else result.outcome
        if error == "error" and result.error:
            error = result.error.type
        message = result.error.message if result.error else "; ".join(finding.reason for finding in result.findings)
        text = result.output.text()
        shown = {"text": text, "value": result.value, "error": error, "message": message}
        saved = sum(file.path.startswith("output/") and file.path.endswith(".png") for file in result.files)
        found.append({**shown, "pictures": len(result.images) + saved, "lost": result.state == "lost"})
    return found


# -- what differs


def forms(text: str) -> list[str]:
    """*text* with less and less of what may differ."""
    for pattern, new in NOISE:
        text = re.sub(pattern, new, text)
    text = text.strip()
    lines = sorted("".join(line.split()) for line in text.splitlines() if line.strip())
    return [text, "".join(text.split()), "\n".join(lines), "".join(sorted("".join(lines)))]


WEAKER = ("addresses and paths", "layout of values", "order of stdout and stderr", "order in sets")


def text_difference(mine: dict[str, Any], other: dict[str, Any], *, notebook: bool) -> Difference:
    """How the texts differ, and what kind of difference that is."""
    ours, theirs = mine["text"], other["text"]
    if other["error"]:  # the traceback is compared by its last line
        ours, theirs = _last(ours), _last(theirs)
    value = mine["value"]
    shown = [(ours, "")]
    if value and not notebook and ours.rstrip().endswith(value.rstrip()):
        shown.append((ours.rstrip().removesuffix(value.rstrip()), "value of the last expression"))
    for text, what in shown:
        if text.strip() == theirs.strip():
            return Difference("same" if not what else "text: " + what)
    for text, what in shown:
        for mine_, other_, kind in zip(forms(text), forms(theirs), WEAKER, strict=True):
            if mine_ == other_:
                return Difference("text: " + (what or kind))
    return Difference("text differs", _first_difference(forms(shown[-1][0])[0], forms(theirs)[0]))


def _last(text: str) -> str:
    line = text.rstrip().rpartition("\n")[2].partition(". Did you mean")[0]
    return re.sub(r"^[\w.]+\.(?=\w+(?::|$))", "", line)  # the module of the exception, which Jupyter leaves out


def _first_difference(ours: str, theirs: str) -> str:
    pairs = zip(ours.splitlines() + [""] * 999, theirs.splitlines() + [""] * 999, strict=False)
    mine, other = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"{mine[:150]} | {other[:150]}"


def compare(mine: dict[str, Any], other: dict[str, Any], *, notebook: bool) -> Difference:
    """What differs between the sandbox and the reference."""
    error = f"{mine['error']}: {mine.get('message', '')}"
    if mine["error"] and not other["error"]:
        return Difference("fails here only", error)
    if other["error"] and not mine["error"]:
        return Difference("fails there only", _last(other["text"]))
    if mine["error"] and mine["error"].rpartition(".")[2] != other["error"].rpartition(".")[2]:
        return Difference("fails otherwise", f"{error} | {_last(other['text'])}")
    if not mine["error"] and mine["pictures"] < other["pictures"]:
        return Difference("picture missing", f"{mine['pictures']} | {other['pictures']}")
    found = text_difference(mine, other, notebook=notebook)
    return found._replace(verdict="fails on both sides") if mine["error"] and found.verdict == "same" else found


async def differences(sandbox: AsyncSandbox, command: list[str], unit: Unit) -> list[Difference]:
    """What differs in *unit*, by cell. A difference that two runs of the reference have as well is none of ours."""
    mine, other = await in_sandbox(sandbox, unit), await in_reference(command, unit)
    again: list[dict[str, Any]] | None = None
    found: list[Difference] = []
    followed = ""
    for at, (ours, theirs) in enumerate(zip(mine, other, strict=False)):
        difference = compare(ours, theirs, notebook=unit.is_notebook)
        if difference.verdict in ("text differs", "fails here only", "fails otherwise") and not followed:
            again = again or await in_reference(command, unit)
            if at < len(again) and compare({**theirs, "value": None}, again[at], notebook=True).verdict not in SAME:
                difference = Difference("text: differs between runs of the reference", difference.detail)
        if followed and difference.verdict not in SAME:
            difference = Difference(f"follows from cell {followed}", difference.detail)
        elif difference.verdict in ("fails here only", "fails there only") or ours.get("lost"):
            followed = str(at)
        found.append(difference)
    return found


SAME = {"same", "fails on both sides", *("text: " + kind for kind in WEAKER)}


# -- the report


def reasons() -> list[list[str]]:
    """Rows of verdict, name (a pattern), expression that the detail matches, and the reason."""
    lines = REASONS.read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def reason_of(name: str, difference: Difference, table: list[list[str]]) -> str | None:
    """Why *difference* is none of ours; None if that is unknown."""
    if difference.verdict not in ("text differs", "fails here only", "fails otherwise", "picture missing"):
        return difference.verdict
    for verdict, pattern, detail, reason in table:
        if verdict in ("*", difference.verdict) and fnmatch(name, pattern) and re.search(detail, difference.detail):
            return reason
    return None


def report(results: dict[str, list[list[str]]]) -> int:
    """Print what came of all of it; returns the exit code."""
    table, counts, unexplained = reasons(), dict[str, Counter[str]](), list[str]()
    for name, rows in results.items():
        source = name.partition("/")[0] + (" notebooks" if "#" in name or name.endswith(".ipynb") else "")
        count = counts.setdefault(source, Counter())
        count["files"] += 1
        for at, row in enumerate(rows):
            difference = Difference(*row)
            where = f"{name}#{at}" if name.endswith(".ipynb") else name
            reason = reason_of(where, difference, table)
            count["runs"] += 1
            count[difference.verdict if difference.verdict.startswith("fails") else reason or difference.verdict] += 1
            if reason is None:
                unexplained.append(f"{where}: {difference.verdict}: {difference.detail}")
    for source, count in counts.items():
        print(source, dict(count))
    total = sum(counts.values(), Counter[str]())
    for kind, number in total.most_common():
        print(f"{number:6} {kind}")
    print(*unexplained, f"without a reason: {len(unexplained)} of {total['runs']}", sep="\n")
    return 1 if len(unexplained) > total["runs"] / 100 else 0


async def work(engine: APIClient, queue: Iterator[Unit], out: Path) -> None:
    """Run units until there are none left."""
    async with open_sides(engine) as (sandbox, command):
        for unit in queue:
            found = await differences(sandbox, command, unit)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps([unit.name, found]) + "\n")
            print(unit.name, dict(Counter(row.verdict for row in found)), flush=True)


def done(out: Path) -> dict[str, list[list[str]]]:
    """What is in the file *out*, by unit."""
    return dict(map(json.loads, out.read_text("utf-8").splitlines())) if out.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="examples of each library, at most")
    parser.add_argument("--notebooks", type=int, default=30, help="of each place, at most")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BUILD / "results.jsonl")
    parser.add_argument("folders", type=Path, nargs="*", help="with more examples and notebooks")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    known = done(given.out)
    queue = iter([unit for unit in units(given.folders, given.count, given.notebooks) if unit.name not in known])
    engine, tried = connect()
    if engine is None:
        sys.exit("no container engine: " + "; ".join(tried))

    async def at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(given.at_once):
                tasks.start_soon(work, engine, queue, given.out)

    anyio.run(at_once)
    return report(done(given.out))


if __name__ == "__main__":
    sys.exit(main())
