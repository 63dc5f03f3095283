"""The static check beside AgentRun's and plain RestrictedPython: ``make compare-check CORPORA=FOLDER``.

AgentRun's own logic is run from its published package, which is installed into a temporary environment. The folder
has ``benign.jsonl`` and ``malicious.jsonl``; --rows adds files of rows like those in tests/safety. Nothing of them is
executed.
"""

from __future__ import annotations

import argparse
import ast
import collections
import json
import re
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp_agentrun.safety import Profile, check, preload

AGENTRUN = """
import json, sys
from agentrun import AgentRun
runner = AgentRun.__new__(AgentRun)
for name, value in dict(dependencies_whitelist=["*"], cached_dependencies=[], log_level="ERROR").items():
    setattr(runner, name, value)
answers = []
for code in json.load(sys.stdin):
    try:
        answers.append(bool(runner.safety_check(code)["safe"]))
    except Exception:
        answers.append(None)
json.dump(answers, sys.stdout)
"""
Judge = Callable[[list[str]], list[bool]]


def ours(profile: Profile) -> Judge:
    return lambda codes: [check(code, profile).allowed for code in codes]


def restricted_python(codes: list[str]) -> list[bool]:
    from RestrictedPython.compile import compile_restricted

    answers: list[bool] = []
    for code in codes:
        try:
            compile_restricted(code, "<code>", "exec")
        except Exception:
            answers.append(False)
        else:
            answers.append(True)
    return answers


def agentrun(codes: list[str]) -> list[bool]:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "agentrun"], check=True)
        answer = subprocess.run(
            [python, "-c", AGENTRUN], input=json.dumps(codes), capture_output=True, text=True, check=True
        )
        verdicts: list[bool | None] = json.loads(answer.stdout)
        print(f"AgentRun's check ended with an exception for {verdicts.count(None)} rows, counted as allowed.\n")
        return [verdict is not False for verdict in verdicts]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def own_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of ours, but for those of a later syntax than this Python's."""
    found: list[dict[str, Any]] = []
    parts = re.split(r"^=== (.*)\n", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
    for head, code in zip(parts[::2], parts[1::2], strict=True):
        try:
            ast.parse(code)
        except SyntaxError:
            continue
        label = "benign" if "benign" in path.name or head.startswith("ok:") else "malicious"
        found.append({"code": code, "label": label, "category": path.name, "static_expected": "block"})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path, metavar="CORPORA")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="files of rows, as in tests/safety")
    options = parser.parse_args()
    folder: Path = options.corpora
    if missing := [name for name in ("benign.jsonl", "malicious.jsonl") if not (folder / name).is_file()]:
        parser.error(f"{folder} has no {' and no '.join(missing)}")
    benign = rows(folder / "benign.jsonl")
    malicious = rows(folder / "malicious.jsonl")
    judged = benign + malicious + [row for path in options.rows for row in own_rows(path)]
    codes = [row["code"] for row in judged]
    preload()
    judges: dict[str, Judge] = {
        "standard": ours("standard"),
        "strict": ours("strict"),
        "off": ours("off"),
        "AgentRun": agentrun,
        "RestrictedPython": restricted_python,
    }
    answers = {name: judge(codes) for name, judge in judges.items()}
    table: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in judges}
    totals: collections.Counter[str] = collections.Counter()
    for index, row in enumerate(judged):
        kind = "benign" if row["label"] == "benign" else f"hostile, {row['static_expected']}"
        groups = (f"{kind}: {row['category']}",)
        for group in groups if row["category"].endswith(".txt") else (kind, *groups):
            totals[group] += 1
            for name in judges:
                table[name][group] += not answers[name][index]
    print("| refused | of | " + " | ".join(judges) + " |")
    print("| --- | ---: |" + " ---: |" * len(judges))
    for group in sorted(totals):
        print(f"| {group} | {totals[group]} | " + " | ".join(str(table[name][group]) for name in judges) + " |")
    times: list[float] = []
    for code in codes:
        started = time.perf_counter()
        check(code)
        times.append((time.perf_counter() - started) * 1000)
    times.sort()
    started = time.perf_counter()
    for _ in range(1000):
        check("print(1)")
    print(
        f"\nA check takes {statistics.median(times):.2f} ms (median), {times[int(len(times) * 0.99)]:.1f} ms (99 %); "
        f"print(1) {time.perf_counter() - started:.3f} ms."
    )


if __name__ == "__main__":
    main()
