"""Every well-known package from the real index, installed and imported in a fresh session of its own.

``python -m tests.long.known_packages [--at-once N] [--out FILE] [name ...]``. Appends a JSON line per package to FILE,
and goes on where it was interrupted. What works is written to ``mcp_agentrun/packages/known.tsv`` with its version and
modules, *name* too if it is new there; whoever runs this decides about the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import stdio_client
from packaging.utils import canonicalize_name

from mcp_agentrun.packages import known
from mcp_agentrun.packages.known import WELL_KNOWN
from tests.support.clients import server_parameters, text_of

TABLE = Path(known.__file__).with_name("known.tsv")
RESULTS = Path("build/known-packages.jsonl")
_MARK = "known-packages: "
_HEAVY = ("torch", "tensorflow", "keras", "sentence-transformers", "jax", "xgboost", "spacy", "gensim", "shap")
"""Last, so that what is quick is not held up by gigabytes."""

PROBE = """
import importlib, importlib.metadata, json, sys
found, failed = set(), {{}}
distribution = importlib.metadata.distribution({name!r})
for path in distribution.files or ():
    top = path.parts[0] if len(path.parts) > 1 else path.name.partition(".")[0]
    if path.suffix in (".py", ".so") and top.isidentifier() and not (top.startswith("_") or top.endswith("__mypyc")):
        found.add(top)
found -= {{"benchmarks", "docs", "examples", "scripts", "setup", "src", "test", "tests", "tools"}}
found -= sys.stdlib_module_names
for module in sorted(found):
    try:
        importlib.import_module(module)
    except BaseException as error:
        failed[module] = f"{{type(error).__name__}}: {{error}}"[:500]
print()
print({mark!r} + json.dumps([distribution.version, sorted(found), failed]))
"""


async def probe(client: Client, name: str) -> dict[str, Any]:
    """Install and import *name*; returns what came of it."""
    result: dict[str, Any] = {"name": name, "date": datetime.now(timezone.utc).date().isoformat()}
    installed = await client.call_tool("install_package", {"packages": name}, read_timeout_seconds=900)
    if installed.is_error:
        return {**result, "error": text_of(installed)}
    code = PROBE.format(name=name, mark=_MARK)
    run = await client.call_tool("run_python", {"code": code, "timeout": 300}, read_timeout_seconds=600)
    line = next((line for line in text_of(run).splitlines() if line.startswith(_MARK)), None)
    if line is None:
        return {**result, "error": text_of(run)[-1000:]}
    version, modules, failed = json.loads(line.removeprefix(_MARK))
    return {**result, "version": version, "modules": modules, "failed": failed}


async def work(names: Iterator[str], out: Path) -> None:
    """Take *names* until there are none left, each in a fresh session of one server."""
    async with Client(stdio_client(server_parameters("--safety", "off"))) as client:
        while (await client.call_tool("run_python", {"code": "1"})).is_error:  # until the image is built
            pass
        for name in names:
            result = await probe(client, name)
            await client.call_tool("reset_sandbox", {})
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(name, fault(result) or "works", flush=True)


def results(path: Path) -> dict[str, dict[str, Any]]:
    """What is in the file at *path*, by name; the last word counts."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def fault(result: dict[str, Any]) -> str | None:
    """Why the package of *result* can't be used; None if it can. Modules for which an extra is needed don't count."""
    if "error" in result:
        return result["error"]
    failed: dict[str, str] = result["failed"]
    by_name = [module for module in failed if canonicalize_name(module) == result["name"]]
    if failed and (by_name or len(failed) == len(result["modules"])):
        return next(failed[module] for module in [*by_name, *failed])
    return None


def write_table(found: dict[str, dict[str, Any]], asked: list[str]) -> None:
    """Note in the table what was *found* of the packages that work and are in it, or were *asked* for."""
    lines = TABLE.read_text("utf-8").splitlines()
    rows = {line.partition("\t")[0]: line for line in lines if not line.startswith("#")}
    for name, result in found.items():
        if fault(result) is None and (name in rows or name in asked):
            modules = [module for module in result["modules"] if module not in result["failed"]]
            rows[name] = "\t".join((name, result["version"], result["date"], " ".join(modules)))
    head = [line for line in lines if line.startswith("#")]
    TABLE.write_text("\n".join([*head, *(rows[name] for name in sorted(rows))]) + "\n", "utf-8")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("names", nargs="*", help="instead of all that are not in FILE yet")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    todo = WELL_KNOWN - results(given.out).keys()
    queue = iter(given.names or sorted(todo, key=lambda name: (name.startswith(_HEAVY), name)))
    async with anyio.create_task_group() as tasks:
        for _ in range(given.at_once):
            tasks.start_soon(work, queue, given.out)
    found = results(given.out)
    write_table(found, given.names)
    bad = {name: why for name, result in found.items() if (why := fault(result)) is not None}
    print(f"{len(found) - len(bad)} of {len(found)} work")
    for name, why in bad.items():
        print(f"{name}: {' '.join(why.split())[:200]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
