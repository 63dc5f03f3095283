"""The static check against everything that could hurt it: ``python -m tests.long.fuzz_check --minutes 20``.

Random text, code put together from a grammar, and mutations of real code. Every input is judged in a process of its own
kind, as the sandbox does; nothing may raise, take longer than a second, or need more than 200 MiB. The exit code is 1
if something did.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from mcp_agentrun.safety import PROFILES, check, preload
from tests.support import CHECKOUT
from tests.support.violations import Violations

SLOW = 1.0
"""Seconds of CPU time that one input may take."""

HANGS = 60.0
"""Seconds, on a machine that others use too."""

MEMORY = 200 << 20
LARGEST = 256 << 10
TEXT_METHODS = """
decode encode replace join strip lower title split rsplit splitlines hex zfill partition translate center format
""".split()  # noqa: SIM905
WORDS = r"""
os sys subprocess builtins system popen eval exec compile open getattr __import__ __globals__ __subclasses__
base64 b64decode Path join format lambda def class for while if else elif try except finally with as import from
return yield await async match case global nonlocal del pass break continue raise assert not and or in is None
True False print range map str bytes chr ord x y z f g a b self cls __class__ __dict__ __name__ '/etc/passwd'
'/proc/self' "{0.__init__}" b'\x00' 0x10 1e9 10**9 ...
""".split()  # noqa: SIM905
OPERATORS = ("+", "-", "*", "/", "%", "**", "<<", ">>", "//", "or", "and", "in", "@")
SIGNS = [*"()[]{}.,:;=+-*/%@<>!&|^~ \n\t\r\f\\'\"#", "\n    ", "**", ":=", "->", "==", "f'", "'''", "\ufeff", "\u00e9"]


def words(choose: random.Random) -> str:
    pieces = [
        choose.choice(WORDS) + " " if choose.random() < 0.6 else choose.choice(SIGNS)
        for _ in range(choose.randint(1, 300))
    ]
    return "".join(pieces)


def expression(choose: random.Random, depth: int) -> str:
    """An expression, mostly valid."""
    if depth <= 0:
        return choose.choice(
            ["x", "y", "os", "sys", "1", "'a'", "b'a'", "'/etc'", "eval", "None", "2**70", "f", "a0", "'os'"]
        )

    def inner() -> str:
        return expression(choose, depth - choose.randint(1, 3))

    forms: list[Callable[[], str]] = [
        lambda: f"{inner()}.{choose.choice(WORDS[:14]).strip(chr(39))}",
        lambda: f"{inner()}({inner()}, {inner()})",
        lambda: f"{inner()}({inner()}, *{inner()}, k={inner()}, **{inner()})",
        lambda: f"{inner()}[{inner()}]",
        lambda: f"{inner()}[{inner()}:{inner()}:{choose.choice(['-1', '0', '2', 'x'])}]",
        lambda: f"({inner()} {choose.choice(OPERATORS)} {inner()})",
        lambda: f"[{inner()} for x in {inner()} if {inner()}]",
        lambda: f"[{inner()} for x in {inner()}]",
        lambda: f"''.join({inner()})",
        lambda: f"{inner()}.{choose.choice(TEXT_METHODS)}({inner()})",
        lambda: f"(lambda x, *y, z=1: {inner()})({inner()})",
        lambda: f"{{{inner()}: {inner()}, **{inner()}}}",
        lambda: f"({inner()}, *{inner()})",
        lambda: f"f'{{{inner()}!r:>{{1}}}}'",
        lambda: f"({inner()} if {inner()} else {inner()})",
        lambda: f"(y := {inner()})",
        lambda: f"getattr({inner()}, {inner()})",
        lambda: f"__import__({inner()})",
        lambda: f"exec({inner()!r})",
        lambda: f"'{{}} {{x}} %s'.format({inner()}, x={inner()})",
        lambda: f"('%s' % {inner()})",
        lambda: f"map({inner()}, {inner()})",
        lambda: f"range({inner()}, {inner()})",
        lambda: f"{choose.choice(['int', 'str', 'chr', 'list', 'sorted', 'numpy.ones', 'bytes', 'open'])}({inner()})",
        lambda: choose.choice(
            ["10**30", "-0x" + "f" * 300, "1e999", "'%9999d'", "[0] * 9", "'a' * 4000", "f'{x}' * 9"]
        ),
        lambda: f"base64.b64decode({inner()})",
        lambda: (
            f"bytes({inner()}).decode({choose.choice(['', chr(39) + 'utf-7' + chr(39), chr(39) + 'rot13' + chr(39)])})"
        ),
    ]
    return choose.choice(forms)()


def program(choose: random.Random) -> str:
    lines: list[str] = []
    for _ in range(choose.randint(1, 12)):
        value = expression(choose, choose.randint(0, 7))
        lines.append(
            choose.choice(
                [
                    f"x = {value}",
                    f"x, *y = {value}",
                    f"a{choose.randint(0, 3)} = a{choose.randint(0, 3)} + {value}",
                    f"x.a[0] = {value}",
                    f"x += {value}",
                    f"def f(x, y={value}): return f(x, {value})",
                    f"class x({value}):\n    y = {value}\n    def __init__(self, a): self.a = {value}",
                    f"for x in {value}: print(x)",
                    f"while True: {value}",
                    f"with {value} as x: pass",
                    "import os as x, sys\nfrom os import path as y",
                    f"try: {value}\nexcept Exception as y: x = {value}",
                    f"match {value}:\n    case [x, *y]: {value}\n    case {{'a': x}}: pass",
                    f"async def f(x): await {value}",
                    f"global x; x = {value}",
                    f"del x\n@{value}\ndef g(): yield {value}",
                    value,
                ]
            )
        )
    return "\n".join(lines)


def repeated(choose: random.Random) -> str:
    """One piece, as often as it goes in: what is quadratic shows."""
    piece = choose.choice([words, program])(choose)[: choose.randint(1, 200)] + choose.choice(["", "\n", ";"])
    return (piece * (LARGEST // max(1, len(piece))))[: choose.randint(1, LARGEST)]


def mutated(choose: random.Random, seeds: list[str]) -> str:
    text = choose.choice(seeds)
    for _ in range(choose.randint(1, 20)):
        place = choose.randint(0, len(text))
        kind = choose.random()
        if kind < 0.4:
            text = text[:place] + choose.choice(WORDS + SIGNS) + text[place:]
        elif kind < 0.7:
            text = text[:place] + text[place + choose.randint(1, 30) :]
        else:
            other = choose.choice(seeds)
            start = choose.randint(0, len(other))
            text = text[:place] + other[start : start + choose.randint(1, 200)] + text[place:]
    return text[:LARGEST]


def noise(choose: random.Random) -> str:
    return "".join(
        chr(choose.choice([choose.randint(0, 127), choose.randint(0, 0x10FFFF)])) for _ in range(choose.randint(0, 500))
    )


def serve(connection: Connection[Any, Any]) -> None:
    """What a checker does: judge what comes, and say how long it took."""
    preload()
    while True:
        code, profile = connection.recv()
        started = time.process_time()
        try:
            check(code, profile)
            error = None
        except BaseException as caught:
            error = repr(caught)[:300]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        connection.send((error, time.process_time() - started, memory))


def start() -> tuple[Connection[Any, Any], SpawnProcess]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    print(f"seed {options.seed}")
    choose = random.Random(options.seed)
    seeds = [path.read_text("utf-8") for path in CHECKOUT.glob("mcp_agentrun/**/*.py")]
    for path in CHECKOUT.glob("tests/safety/*.txt"):
        seeds += re.split(r"^=== .*\n", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
    violations = Violations()
    connection, process = start()
    end = time.monotonic() + options.minutes * 60
    judged, slowest, most = 0, 0.0, 0
    while time.monotonic() < end:
        kind = choose.choice([words, program, program, repeated, noise, None, None])
        code = mutated(choose, seeds) if kind is None else kind(choose)
        connection.send((code, choose.choice(PROFILES)))
        if not connection.poll(HANGS):
            violations.note("hang", repr(code[:400]))
            process.kill()
            connection, process = start()
            continue
        try:
            error, seconds, memory = connection.recv()
        except EOFError:
            violations.note("death", repr(code[:400]))
            connection, process = start()
            continue
        judged, slowest, most = judged + 1, max(slowest, seconds), max(most, memory)
        violations.require(error is None, "exception", (error, code[:400]))
        violations.require(seconds <= SLOW, "slow", (round(seconds, 2), len(code), code[:200]))
        violations.require(memory <= MEMORY, "memory", (memory >> 20, len(code), code[:200]))
        if memory > MEMORY:
            process.kill()
            connection, process = start()
    print(f"{judged} inputs; slowest {slowest:.2f} s of CPU time; at most {most >> 20} MiB; {dict(violations.counts)}")
    return 1 if violations.counts else 0


if __name__ == "__main__":
    sys.exit(main())
