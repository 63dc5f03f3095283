"""The conformance suite against ``mcp-agentrun serve``, in both revisions of the protocol: `make conformance`.

Exits with 1 where a check fails that ``not-applicable.yml`` does not name, or one that it names does not fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.http_server import http_server
from tests.support.nodejs import node_environment

HERE = Path(__file__).parent
LISTED = HERE / "not-applicable.yml"
SUITE = HERE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
REVISIONS = ("2025-11-25", "2026-07-28")

FAILED = {"FAILURE", "WARNING"}
ABOUT_THE_WIRE = {"wire-schema-valid", "wire-schema-harness-error"}
NOTHING_TO_CHECK = {"server-sse-polling"}  # of streams, which its call does not get: it is answered with one message


def listed(section: str) -> set[str]:
    """The entries of one section of the list."""
    text = LISTED.read_text("utf-8")
    body = re.split(rf"^{section}:\n", text, flags=re.MULTILINE)[1]
    return set(re.findall(r"^  - (\S+)$", re.split(r"^\w", body, flags=re.MULTILINE)[0], flags=re.MULTILINE))


def results(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each scenario that was run, and its checks; the folders are named ``server-SCENARIO-TIME``."""
    for path in sorted(folder.glob("server-*/checks.json")):
        match = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", path.parent.name)
        assert match, path
        yield match[1], json.loads(path.read_text("utf-8"))


def judge(revision: str, found: dict[str, list[dict[str, Any]]], expected: set[str]) -> list[str]:
    """What is not as listed. The suite itself accepts a listed check that it never came to, and one of no checks."""
    wrong: list[str] = []
    for scenario, checks in found.items():
        failed = {f"{scenario}:{check['id']}" for check in checks if check["status"] in FAILED}
        named = {entry for entry in expected if entry.partition(":")[0] == scenario}
        wrong += [f"{entry} failed" for entry in sorted(failed - named)]
        wrong += [f"{entry} is listed and did not fail" for entry in sorted(named - failed)]
        own = [check for check in checks if check["id"] not in ABOUT_THE_WIRE]
        has_checked = any(check["status"] == "SUCCESS" for check in own)
        if not named and not failed and has_checked is (scenario in NOTHING_TO_CHECK):
            wrong.append(f"{scenario} checked {'something' if has_checked else 'nothing'}")
    return [f"{revision}: {line}" for line in wrong]


def main() -> int:
    environment = node_environment()
    suite = ["node", str(SUITE)]
    expected, extensions = listed("server"), listed("extensions")
    said = subprocess.run([*suite, "list", "--server"], env=environment, capture_output=True, text=True, check=True)
    known = set(re.findall(r"^  - (\S+) \[", said.stdout, flags=re.MULTILINE))
    seen: set[str] = set()
    wrong: list[str] = []
    summary: list[str] = []
    with tempfile.TemporaryDirectory() as name, http_server(Path(name), auth=False) as server:
        for revision in REVISIONS:
            folder = Path(name) / revision
            ran = subprocess.run(
                [
                    *(*suite, "server", "--url", f"{server.url}/mcp", "--suite", "all", "--spec-version", revision),
                    *("--expected-failures", str(LISTED), "--output-dir", str(folder)),
                ],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            found = dict(results(folder))
            seen |= set(found)
            problems = judge(revision, found, expected)
            if ran.returncode != 0:
                problems.append(f"{revision}: the suite ended with status {ran.returncode}")
            if problems:
                print(ran.stdout)
            wrong += problems
            whole = [name for name in found if not any(entry.startswith(f"{name}:") for entry in expected)]
            checks = [check["status"] for checks in found.values() for check in checks]
            summary.append(
                f"{revision}: {len(whole)} of {len(found)} scenarios apply as a whole; {checks.count('SUCCESS')} "
                f"checks passed, {sum(one in FAILED for one in checks)} failed as listed.\n  {', '.join(whole)}"
            )
    wrong += [f"{name} was not run, and is not listed" for name in sorted(known - seen - extensions)]
    wrong += [f"{name} is listed, and the suite has none" for name in sorted(extensions - known)]
    wrong += [f"{entry} is listed, and was not run" for entry in sorted(expected) if entry.split(":")[0] not in seen]
    if wrong:
        print(f"Not as tests/long/conformance/{LISTED.name} says:", *(f"  {line}" for line in wrong), sep="\n")
        return 1
    print(*summary, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
