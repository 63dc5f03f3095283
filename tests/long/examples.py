"""Examples of libraries and public notebooks in sandboxes, beside plain Python and a Jupyter kernel.

``python -m tests.long.examples [options] [folder ...]``, of which ``--help`` lists the options. Fetches
the source distributions that have the examples from the configured index, and takes examples and notebooks from them
and from the folders given. Both sides run the same files of the same packages within the same limits. A file that
exceeds the limits on one side only is run again at the end, alone and with larger ones. Appends a JSON line per file to
FILE, continues where it was interrupted, and ends with a table. Fails if more than 1 % of the cells differ and
``reasons.tsv`` does not say why.
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
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from docker import APIClient

from mcp_agentrun.engine import PACKAGES
from mcp_agentrun.engine.docker.discovery import connect
from mcp_agentrun.errors import UnavailableError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from mcp_agentrun.settings.fields import GIB

from ..support.differences import SAME, Difference, differences, is_limit, needs_reason, report
from ..support.sandboxes import open_sandbox

SOURCES = ("matplotlib", "scikit-learn", "scikit-image", "networkx", "statsmodels", "bokeh")
PACKAGES_USED = (*SOURCES, "seaborn", "scipy", "sympy", "plotly", "requests", "PyWavelets", "bokeh_sampledata")
HERE = Path(__file__).parent
REASONS = HERE / "reasons.tsv"
BUILD = Path("build/examples")


class Limits(NamedTuple):
    """What either side may use."""

    timeout: float
    """Seconds of a cell, or of a file."""

    total: float
    """Seconds after which no other cell of a notebook is begun."""

    memory: int
    workspace: int


USUAL = Limits(60, 300, GIB, GIB // 4)
LARGE = Limits(300, 900, 4 * GIB, 2 * GIB)
"""For what one side alone can't do with the usual ones: it runs once more, and alone."""

KILLED = 128 + 9
DISK_LIMIT = r"\[Errno (?:27|28)\]"  # file too large; no space left
NOT_BEGUN: dict[str, Any] = {"text": "", "value": None, "error": "not begun", "pictures": 0}


class Unit(NamedTuple):
    """An example file, or a notebook with several cells."""

    name: str
    cells: list[str]
    is_notebook: bool


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
        code = [cell for cell in code if cell.strip()]
        if code:
            yield Unit(f"{label}/{path.name}", code, True)


def units(folders: list[Path], count: int, notebooks: int) -> list[Unit]:
    """All that is to be run, of each place in turn."""
    sources = [(fetch(name), name) for name in SOURCES]
    places = [*sources, *((folder, folder.name) for folder in folders)]
    found = [examples_of(folder, name, count) for folder, name in places]
    found += [notebooks_of(folder, name, notebooks) for folder, name in places]
    return [unit for each in zip_longest(*found) for unit in each if unit is not None]


# -- both sides


@asynccontextmanager
async def open_sides(engine: APIClient, limits: Limits) -> AsyncGenerator[tuple[AsyncSandbox, list[str]]]:
    """A sandbox with the packages, and the command that starts the reference with the same files of them."""
    settings = Settings(
        max_timeout=limits.timeout,
        memory=limits.memory,
        workspace_size=limits.workspace,
        auto_install="off",
        install_timeout=900,
    )
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
            "docker", "run", "--rm", "--interactive", "--network=none", "--cpus=1",
            f"--memory={limits.memory}", f"--memory-swap={limits.memory}",
            f"--volume={volume}:{PACKAGES}:ro", f"--volume={HERE.absolute()}:/reference:ro",
            "--tmpfs=/tmp:mode=1777,exec", "--tmpfs=/workspace:mode=1777,exec,uid=10001",
            "--env=HOME=/tmp", "--env=LANG=C.UTF-8", "--env=OMP_NUM_THREADS=1", "--env=OPENBLAS_NUM_THREADS=1",
            f"--env=PYTHONPATH={path}", "--entrypoint=/opt/venv/bin/python", container["ImageID"],
            "/reference/reference.py",
        ]
        # fmt: on


async def in_reference(command: list[str], unit: Unit, limits: Limits) -> list[dict[str, Any]]:
    """What plain Python or a Jupyter kernel makes of *unit*: text, pictures and error of each cell."""
    asked = {"cells": unit.cells, "kernel": unit.is_notebook, "timeout": limits.timeout, "seconds": limits.total}
    done = await anyio.run_process(command, input=json.dumps(asked).encode(), check=False)
    if done.returncode == KILLED:
        found = [{**NOT_BEGUN, "error": "memory_limit"}]
    elif done.returncode:
        raise RuntimeError(f"the reference has failed: {done.stderr.decode(errors='replace')}")
    else:
        found = json.loads(done.stdout)
    return found + [NOT_BEGUN] * (len(unit.cells) - len(found))


async def in_sandbox(sandbox: AsyncSandbox, unit: Unit, limits: Limits) -> list[dict[str, Any]]:
    """What a sandbox makes of *unit*."""
    await sandbox.reset(keep_packages=True)
    found: list[dict[str, Any]] = []
    end = anyio.current_time() + limits.total
    for cell in unit.cells:
        if anyio.current_time() > end:
            break
        result = await sandbox.run(cell, timeout=limits.timeout)
        error = None if result.outcome == "ok" else result.outcome
        if error == "error" and result.error:
            error = "disk_limit" if re.match(DISK_LIMIT, result.error.message) else result.error.type
        message = result.error.message if result.error else "; ".join(finding.reason for finding in result.findings)
        text = result.output.text()
        shown = {"text": text, "value": result.value, "error": error, "message": message}
        saved = sum(file.path.startswith("output/") and file.path.endswith(".png") for file in result.files)
        found.append({**shown, "pictures": len(result.images) + saved, "lost": result.state == "lost"})
    return found + [NOT_BEGUN] * (len(unit.cells) - len(found))


# -- running


async def run_both(sandbox: AsyncSandbox, command: list[str], unit: Unit, limits: Limits) -> list[Difference] | None:
    """What differs in *unit*, by cell; None if one side alone has reached the usual limits."""
    mine, other = await in_sandbox(sandbox, unit, limits), await in_reference(command, unit, limits)
    if limits is USUAL and any(map(is_limit, mine, other)):
        return None
    found = differences(mine, other, None, notebook=unit.is_notebook)
    if any(map(needs_reason, found)):
        again = await in_reference(command, unit, limits)
        found = differences(mine, other, again, notebook=unit.is_notebook)
    return found


async def work(
    engine: APIClient, queue: Iterator[Unit], out: Path, limits: Limits, *, postponed: list[Unit] | None = None
) -> None:
    """Run units until there are none left; those that need more than the usual limits are added to *postponed*."""
    async with open_sides(engine, limits) as (sandbox, command):
        for unit in queue:
            found = await run_both(sandbox, command, unit, limits)
            if found is None and postponed is not None:
                postponed.append(unit)
            elif found is not None:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([unit.name, found]) + "\n")
            verdicts = Counter(row.verdict for row in found or [Difference("postponed: needs larger limits")])
            print(unit.name, dict(verdicts), flush=True)


async def run_all(engine: APIClient, units: list[Unit], out: Path, at_once: int) -> None:
    """Run *units*, several at once; then, one after the other, those that needed more than the usual limits."""
    postponed: list[Unit] = []
    queue = iter(units)
    async with anyio.create_task_group() as tasks:
        for _ in range(at_once if units else 0):
            tasks.start_soon(partial(work, engine, queue, out, USUAL, postponed=postponed))
    if postponed:
        await work(engine, iter(postponed), out, LARGE)


def done(out: Path) -> dict[str, list[list[str]]]:
    """What is in the file *out*, by unit."""
    return dict(map(json.loads, out.read_text("utf-8").splitlines())) if out.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="examples of each library, at most")
    parser.add_argument("--notebooks", type=int, default=30, help="of each place, at most")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BUILD / "results.jsonl")
    parser.add_argument("--again", action="store_true", help="run files again in which something differed")
    parser.add_argument("--table", action="store_true", help="run nothing, and print the table of what has been run")
    parser.add_argument("folders", type=Path, nargs="*", help="with more examples and notebooks")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    known = done(given.out)
    if given.again:
        known = {name: rows for name, rows in known.items() if all(row[0] in SAME for row in rows)}
    wanted = units(given.folders, given.count, given.notebooks)
    missing = [unit for unit in wanted if unit.name not in known and not given.table]
    engine, tried = connect()
    if engine is None:
        sys.exit("no container engine: " + "; ".join(tried))
    anyio.run(run_all, engine, missing, given.out, given.at_once)
    results = done(given.out)
    text, is_acceptable = report({unit.name: results[unit.name] for unit in wanted if unit.name in results}, REASONS)
    print(text)
    return 0 if is_acceptable else 1


if __name__ == "__main__":
    sys.exit(main())
