"""How what a sandbox did differs from what a reference did: text, pictures and error of each cell, and reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

NOISE = (
    (r"\x1b\[[0-9;]*[A-Za-z]", ""),
    (r"(?: object)? at 0x[0-9a-fA-F]{4,}", " at 0x"),  # IPython leaves the word out
    (r"\b0x[0-9a-fA-F]{4,}\b", "0x"),
    (r"(?m)^<Figure size \S+ with \d+ Axes>$", ""),  # beside the picture
    (r"(?m)^\S*(?:<run-\d+>|<cell>|\.py):(\d+): (?=\w*Warning|\w+: )", r"\1: "),
    (r"(?m)^/(?:usr/)?bin/sh: ", "sh: "),
    (r"/tmp/(?:ipykernel_\d+|home|tmp\w+)\S*", "/tmp"),
    (r"\s*[\w.]*\d+%\|.*", ""),  # tqdm
    (r"(?m)[ \t]+$", ""),
)
"""What never is the same twice, or says where the file is."""

WEAKER = ("addresses and paths", "layout of values", "order of stdout and stderr", "order in sets")
LIMITS = {"timeout", "memory_limit", "disk_limit", "not begun"}
"""Errors of a cell that might succeed with more time, memory or disk space."""

MISSING = r"\b(?:NameError|FileNotFoundError): "
"""What a cell fails with because of a failed one before it."""

SAME = {"same", *("text: " + kind for kind in WEAKER)}
ON_BOTH_SIDES = {"fails on both sides", "limit on both sides"}
EXPLAINED = {"text: value of the last expression", "text: differs between runs of the reference"}


class Difference(NamedTuple):
    """How what the sandbox did differs from the reference."""

    verdict: str
    detail: str = ""


# -- one cell


def forms(text: str) -> list[str]:
    """*text* with less and less of what may differ."""
    for pattern, new in NOISE:
        text = re.sub(pattern, new, text)
    text = text.strip()
    lines = sorted("".join(line.split()) for line in text.splitlines() if line.strip())
    words = re.findall(r"\w[\w.]*|\S", text)
    return [text, "".join(text.split()), "\n".join(lines), " ".join(sorted(words))]


def _texts(mine: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
    """What is compared: all of it, or the last line of a traceback."""
    if other["error"]:
        return _last(mine["text"]), _last(other["text"])
    return mine["text"], other["text"]


def _last(text: str) -> str:
    line = text.rstrip().rpartition("\n")[2].partition(". Did you mean")[0]
    return re.sub(r"^[\w.]+\.(?=\w+(?::|$))", "", line)  # the module of the exception, which Jupyter leaves out


def text_difference(mine: dict[str, Any], other: dict[str, Any], *, notebook: bool) -> Difference:
    """How the texts differ, and what kind of difference that is."""
    ours, theirs = _texts(mine, other)
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


def _first_difference(ours: str, theirs: str) -> str:
    pairs = zip(ours.splitlines() + [""] * 999, theirs.splitlines() + [""] * 999, strict=False)
    mine, other = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"{mine[:150]} | {other[:150]}"


def compare(mine: dict[str, Any], other: dict[str, Any], *, notebook: bool) -> Difference:
    """What differs between the sandbox and the reference."""
    error = f"{mine['error']}: {mine.get('message', '')}"
    if mine["error"] in LIMITS and other["error"] in LIMITS:
        return Difference("limit on both sides", f"{mine['error']} | {other['error']}")
    if mine["error"] and not other["error"]:
        return Difference("fails here only", error)
    if other["error"] and not mine["error"]:
        return Difference("fails there only", _last(other["text"]) or other["error"])
    if mine["error"] and mine["error"].rpartition(".")[2] != other["error"].rpartition(".")[2]:
        return Difference("fails otherwise", f"{error} | {_last(other['text'])}")
    if not mine["error"] and mine["pictures"] < other["pictures"]:
        return Difference("picture missing", f"{mine['pictures']} | {other['pictures']}")
    found = text_difference(mine, other, notebook=notebook)
    return Difference("fails on both sides", error) if mine["error"] and found.verdict == "same" else found


def is_limit(mine: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one side alone has reached its limit of time or memory."""
    return (mine["error"] in LIMITS) != (other["error"] in LIMITS)


def differs_by_itself(mine: dict[str, Any], other: dict[str, Any], again: dict[str, Any]) -> bool:
    """Whether the reference, run *again*, differs from itself as it does from the sandbox: the lines that stay the same
    in the reference are the sandbox's, too.
    """
    if other["error"] != again["error"] or other["pictures"] != again["pictures"]:
        return True
    if mine["error"] != other["error"] or mine["pictures"] < other["pictures"]:
        return False
    ours, theirs = (forms(text)[0].splitlines() for text in _texts(mine, other))
    repeated = forms(_texts(again, other)[0])[0].splitlines()
    if len(theirs) != len(repeated):
        return True
    if mine["value"] and len(ours) > len(theirs):
        ours = ours[: len(theirs)]
    stable = [own == their for own, their, more in zip(ours, theirs, repeated, strict=False) if their == more]
    return len(ours) == len(theirs) and all(stable)


# -- one file


def differences(
    mine: list[dict[str, Any]], other: list[dict[str, Any]], again: list[dict[str, Any]] | None, *, notebook: bool
) -> list[Difference]:
    """What differs, by cell.

    :param again: another run of the reference, if there has been one: a difference that it has as well is none of ours.
    """
    found: list[Difference] = []
    followed = ""
    for at, (ours, theirs) in enumerate(zip(mine, other, strict=True)):
        difference = compare(ours, theirs, notebook=notebook)
        if needs_reason(difference) and again is not None and differs_by_itself(ours, theirs, again[at]):
            difference = Difference("text: differs between runs of the reference", difference.detail)
        if followed and needs_reason(difference) and re.search(MISSING, difference.detail):
            difference = Difference(f"follows from cell {followed}", difference.detail)
        elif difference.verdict in ("fails here only", "fails there only") or ours.get("lost"):
            followed = followed or str(at)
        found.append(difference)
    return found


def needs_reason(difference: Difference) -> bool:
    """Whether *difference* has to be explained."""
    return difference.verdict not in SAME | ON_BOTH_SIDES | EXPLAINED and not difference.verdict.startswith("follows")


# -- the report


def _reasons(file: Path) -> list[list[str]]:
    """Rows of verdict, name (a pattern), expression that the detail matches, and the reason."""
    lines = file.read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def _reason_of(name: str, difference: Difference, table: list[list[str]]) -> str | None:
    """Why *difference* is none of ours; None if that is unknown."""
    for verdict, pattern, detail, reason in table:
        if verdict in ("*", difference.verdict) and fnmatch(name, pattern) and re.search(detail, difference.detail):
            return reason
    return None


def _classified(results: dict[str, list[list[str]]], table: list[list[str]]) -> Iterator[tuple[str, str, str, str]]:
    """Source, name, column of the table and what it is, of each cell."""
    for name, rows in results.items():
        source = name.partition("/")[0] + (": notebooks" if name.endswith(".ipynb") else "")
        for at, row in enumerate(rows):
            difference = Difference(*row)
            where = f"{name}#{at}" if name.endswith(".ipynb") else name
            if difference.verdict in SAME:
                yield source, where, "same", difference.verdict
            elif difference.verdict in ON_BOTH_SIDES:
                yield source, where, difference.verdict, difference.verdict
            elif not needs_reason(difference):
                yield source, where, "explained", re.sub(r" from cell \d+", " from an earlier cell", difference.verdict)
            elif reason := _reason_of(where, difference, table):
                yield source, where, "explained", f"{difference.verdict}: {reason}"
            else:
                yield source, where, "unexplained", f"{where}: {difference.verdict}: {difference.detail}"


COLUMNS = ("same", *sorted(ON_BOTH_SIDES), "explained", "unexplained")


def report(results: dict[str, list[list[str]]], reasons: Path) -> tuple[str, bool]:
    """What came of all of it, and whether that is acceptable: at most 1 % has no reason.

    :param reasons: a file of reasons for differences.
    """
    rows = list(_classified(results, _reasons(reasons)))
    lines = [_row("source", "files", "cells", *COLUMNS), "| --- " * (len(COLUMNS) + 3) + "|"]
    for source in [*dict.fromkeys(row[0] for row in rows), "all"]:
        those = [row for row in rows if source in (row[0], "all")]
        files = {name.partition("#")[0] for _, name, _, _ in those}
        lines.append(_row(source, len(files), len(those), *(sum(row[2] == each for row in those) for each in COLUMNS)))
    lines += ["", "Differences that have a reason:"]
    for kind, number in Counter(row[3] for row in rows if row[2] == "explained").most_common():
        lines.append(f"{number:6} {kind}")
    unexplained = [row[3] for row in rows if row[2] == "unexplained"]
    lines += ["", f"Without a reason: {len(unexplained)} of {len(rows)}", *unexplained]
    return "\n".join(lines), len(unexplained) <= len(rows) / 100


def _row(*values: object) -> str:
    return f"| {' | '.join(map(str, values))} |"
