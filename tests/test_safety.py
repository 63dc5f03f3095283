"""The static check by itself: what it refuses, what it allows, and that no input can hurt it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_agentrun.safety import Names, check, prepare
from mcp_agentrun.safety.rules import RULES
from mcp_agentrun.safety.scanner import measure

CORPORA = Path(__file__).parents[2] / "shared" / "corpora"
SNIPPETS = Path(__file__).parent / "snippets"


def snippets(name: str) -> list[str]:
    """The pieces of a file of ours, which a line of dashes separates."""
    return (SNIPPETS / name).read_text("utf-8").split("\n---\n")


def rows(name: str) -> list[dict[str, str]]:
    path = CORPORA / name
    if not path.exists():
        pytest.skip("the corpora are not here")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("code", snippets("hostile.txt"))
def test_hostile_code_is_refused_with_place_and_remedy(code: str) -> None:
    verdict = check(code)
    assert not verdict.allowed
    for finding in verdict.findings:
        assert finding.rule in RULES
        assert 1 <= finding.line <= code.count("\n") + 1
        assert finding.column >= 1
        assert finding.reason.endswith(".")
        assert finding.remedy
        assert len(str(finding).splitlines()) <= 3


@pytest.mark.parametrize("code", snippets("harmless.txt"))
def test_ordinary_code_is_allowed(code: str) -> None:
    assert check(code).findings == ()


STRICT = """
import os
import os.path
from os import path
import sys
from sys import argv
import subprocess
import builtins
exec("1")
eval("1")
compile("1", "", "exec")
open("x")
input()
__import__("math")
globals()
class A: e = eval
class A: pass
a = A(); a.e = eval; a.e("1")
def f(): pass
f.__globals__["__builtins__"]["eval"]("1")
""".strip().splitlines()


@pytest.mark.parametrize("code", [line for line in STRICT if line not in ("class A: pass", "def f(): pass")])
def test_strict_refuses_what_agentrun_calls_unsafe(code: str) -> None:
    verdict = check(code, "strict")
    assert not verdict.allowed
    assert not verdict.is_syntax_error


@pytest.mark.parametrize("code", ["x = 1 +", "def f(:", "print 'x'", "for", "\tx = 1\n  y = 2", "return"[:-1] + "("])
@pytest.mark.parametrize("profile", ["strict", "standard", "off"])
def test_a_syntax_error_is_reported_as_one(code: str, profile: str) -> None:
    verdict = check(code, profile)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert verdict.is_syntax_error
    assert [finding.rule for finding in verdict.findings] == ["syntax"]


GUARDED = {
    "nul": "x = '\0'",
    "unicode": "x = '\ud800'",
    "cookie": "# -*- coding: utf-7 -*-\nprint(1)",
    "size": "x" * ((2 << 20) + 1),
    "nodes": "a;" * 60_000,
    "nesting": "x = " + "-" * 500 + "1",
}


@pytest.mark.parametrize("rule", GUARDED)
@pytest.mark.parametrize("profile", ["strict", "standard", "off"])
def test_guards_hold_in_every_profile(rule: str, profile: str) -> None:
    verdict = check(GUARDED[rule], profile, warn=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert not verdict.allowed
    assert [finding.rule for finding in verdict.findings] == [rule]


@pytest.mark.parametrize(
    "prefix",
    ["\ufeff", "# coding: utf-8\n", "\f", "#!/usr/bin/python\n# vim: set fileencoding=ascii :\n", "# x\r", "\n\f"],
)
def test_what_comes_before_the_code_hides_nothing(prefix: str) -> None:
    assert not check(prefix + "import os; os.system('id')").allowed


def test_carriage_returns_end_lines() -> None:
    verdict = check("# a comment\rimport os\ros.system('id')\r")
    assert [(finding.rule, finding.line) for finding in verdict.findings] == [("process-spawn", 3)]


def test_rules_can_be_switched() -> None:
    spawn = "import os; os.system('id')"
    assert check(spawn, off=["process-spawn"]).allowed
    assert check(spawn, spawn=True).allowed
    assert not check(spawn, off=["network"]).allowed
    assert check("import requests; requests.get('http://x')", network=True).allowed
    assert not check("import requests; requests.get('http://169.254.169.254/')", network=True).allowed


def test_warnings_allow() -> None:
    verdict = check("import os; os.system('id')", warn=True)
    assert verdict.allowed
    assert verdict.findings


def test_off_checks_no_rules() -> None:
    assert check("import os; os.system('id')", "off").findings == ()


def test_an_unknown_profile_is_an_error() -> None:
    with pytest.raises(ValueError, match="no profile"):
        check("1", "lax")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_imports_are_told() -> None:
    code = "import a.b, c as d\ndef f():\n    from e.f import g\n    from . import h"
    assert check(code).imports == ("a", "c", "e")
    assert check(code, "off").imports == ("a", "c", "e")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("import os as o", "o.system('id')"),
        ("import os\nx = os", "x.popen('id')"),
        ("from shutil import os as z", "z.system('id')"),
        ("m = __import__('os')", "getattr(m, 'sys' + 'tem')('id')"),
        ("a = '/etc/'; b = 'shadow'", "open(a + b)"),
        ("from pathlib import Path\np = Path('/etc')", "(p / 'shadow').read_text()"),
        ("import os as o\ndef f(): pass", "raise ValueError\no = 1\n"),
        ("n = 'system'", "import os\ngetattr(os, n)('id')"),
    ],
)
def test_names_are_carried_across_calls(earlier: str, later: str) -> None:
    names = Names()
    assert check(earlier, names=names).allowed
    names = Names.from_json(json.loads(json.dumps(names.to_json())))
    if "raise" in later:
        assert check(later, names=names).allowed
        assert not check("o.system('id')", names=names).allowed  # the code may have stopped before `o` was rebound
    else:
        assert not check(later, names=names).allowed
    assert check("print(1)", names=Names()).allowed


def test_refused_code_leaves_no_names() -> None:
    names = Names()
    assert not check("import os as o; o.system('id')", names=names).allowed
    assert len(names) == 0


def test_too_many_names_are_forgotten_and_not_refused() -> None:
    names = Names()
    for start in range(0, 3000, 300):
        code = "\n".join(f"import os as o{n}" for n in range(start, start + 300))
        assert check(code, names=names).allowed
    assert not check("o2999.system('id')", names=names).allowed  # the latest are known
    assert check("print(o0)", names=names).allowed
    assert len(json.dumps(names.to_json())) < 1 << 19


@pytest.mark.parametrize("character", ["a", "é", "🐧", "\\n"])
def test_what_is_remembered_is_no_larger_than_its_keeper_takes(character: str) -> None:
    names = Names()
    for start in range(0, 1500, 300):
        code = "\n".join(f"t{n} = '{n}{character * 200}'" for n in range(start, start + 300))
        assert check(code, names=names).allowed
        names = Names.from_json(json.loads(json.dumps(names.to_json())))
    assert 1000 < len(json.dumps(names.to_json())) < 1 << 18


def test_names_that_are_too_long_are_not_remembered() -> None:
    names = Names()
    code = "".join(f"import os as {character * 200_000}\n" for character in "abcdef")
    assert check(code, names=names).allowed
    assert len(json.dumps(names.to_json())) < 1 << 10


def filled(piece: str) -> str:
    return piece * ((256 << 10) // len(piece))


WORST = {
    "statements": filled("a;"),
    "numbers": "x=[" + filled("1,")[:-6] + "1]",
    "texts": "x=[" + filled("'a',")[:-4] + "]",
    "sum": "x=" + filled("a+")[:-4] + "a",
    "attributes": "x" + filled(".a")[:-2],
    "parentheses": filled("("),
    "minus": filled("-")[:-1] + "1",
    "lambdas": filled("lambda:")[:-7] + "1",
    "names": "\n".join(f"a{i}=a{i - 1}" for i in range(1, 12000)),
    "doubling": "a0='xy'\n" + "\n".join(f"a{i}=a{i - 1}+a{i - 1}" for i in range(1, 6000)),
    "circle": "\n".join("a,b,c=b,c,a" for _ in range(5000)),
    "functions": "\n".join(f"def f{i}(x):return f{i - 1}(x)+f{i - 1}(x)" for i in range(1, 3500)),
    "recursion": "def f(x):return f(x+'a')+f(x)\nf('b')\n" * 2500,
    "code in text": "\n".join(f"exec('a{i}=1')" for i in range(7000)),
    "lists in lists": "a0=[1,2]\n" + "\n".join(f"a{i}=[a{i - 1},a{i - 1}]" for i in range(1, 5000)) + "\nopen(a4999)",
    "alternatives": "\n".join(f"p={i!r}" for i in range(8000)) + "\nopen(p)",
    "loops": "while 1:\n f.write(1)\n" * 4000,
    "powers": "x=9" + "**9" * 90,
    "paths": "\n".join(f"open(x{i % 50}+'/etc')" for i in range(4500)),
    "else": "if a:1\n" + "elif a:1\n" * 20000,
    "comprehensions": "x=" + "[c for c in " * 30 + "'abc'" + "]" * 30,
    "tuples of one": filled("x,\n"),
    "digits": "x=" + "1" * (255 << 10),
    "hexadecimal digits": "a=0x" + "f" * 200_000 + "\nopen(a);x=[0]*a;y=2**a;z=a**a;w=a<<a\n'%d'%a;f'{a}';str(a)",
    "fields of an f-string": "x=f'" + filled("{a}")[:-9] + "'",
    "fields far into an f-string": "x=f'" + "b" * 190_000 + "{a}" * 20_000 + "'",
    "formats in an f-string": "x=f'" + filled("{a:{b}}")[:-7] + "'",
    "calls in an f-string": "x=f'" + filled("{f(a)}")[:-6] + "'",
    "lines of an f-string": "x=f'''" + filled("{a}\n")[:-12] + "'''",
    "f-strings in f-strings": filled("f'{f\"{a}\"}';"),
    "an f-string that hides the rest": 'x=f"{\'"\'}";' + "a;" * 120_000,
    "open f-strings": filled("f'{"),
    "escaped quotes": filled("\\'"),
    "escaped quotes by threes": filled("\\'''\n"),
    "escapes": "x='" + filled("\\u0041")[:-6] + "'",
    "characters by name": "x='" + filled("\\N{SNOWMAN}")[:-11] + "'",
    "names that are normalised": filled("\U0001d41a=1;"),
    "comparisons": "x=a" + filled("<a")[:-4],
    "decorators": filled("@a(b)\n")[:-12] + "def f():1",
    "keywords": "f(" + ",".join(f"a{i}=1" for i in range(22_000)) + ")",
    "type parameters": "def f[" + ",".join(f"T{i}" for i in range(30_000)) + "]():1",
    "alternatives of a pattern": "match x:\n case 1" + filled("|1")[:-20] + ":1",
    "cases": "match x:\n" + filled(" case a:1\n")[:-10],
    "aliases": "import os as a" + ",os as a" * 32_000,
    "aliases of one name": "from os import path as a\n" * 10_000,
    "stars": "from a import *\n" * 16_000 + "x.y\n" * 1_000,
    "stars of many": "".join(f"from a{i} import *\n" for i in range(7_000)) + "".join(f"x{i};" for i in range(9_000)),
    "loops in loops": "".join(" " * i + "while 1:\n" for i in range(90)) + (" " * 90 + "a()\n") * 2_500,
    "loops that end last": "".join(" " * i + "while 1:\n" for i in range(90))
    + (" " * 90 + "a()\n") * 2_500
    + " " * 90
    + "break",
    "functions in functions": "".join(" " * i + "def f(a):\n" for i in range(95))
    + (" " * 95 + "return f(a)\n") * 2_100,
    "doctests": "import doctest\n" + "'>>> a'\n" * 15_000 + "doctest.testmod()\n" * 4_000,
    "long texts": "a='" + "a" * 100_000 + "'\n" + "".join(f"b{i}=a+'{i}'\n" for i in range(9_000)),
    "long bytes": "a=b'" + "a" * 100_000 + "'\n" + "".join(f"b{i}=a+b'{i}'\n" for i in range(9_000)),
    "lists of texts": "a='" + "a " * 50_000 + "'\n" + "".join(f"b{i}=a.split()\n" for i in range(8_000)),
    "joins": "a='" + "a" * 100_000 + "'\n" + "".join(f"b{i}=a.join(list(a))\n" for i in range(5_000)),
    "translations": "a='" + "a" * 100_000 + "'\nb=a.translate([" + "''," * 97 + "a])",
    "templates": "a='" + "a" * 100_000 + "'\nb='" + "{0}" * 40_000 + "'.format(a)",
    "templates by name": "a='" + "a" * 100_000 + "'\nb='" + "%(a)s" * 25_000 + "'%{'a':a}",
    "wide formats": "a='%900000000d'%1\nb='{:900000000}'.format(1)\nc=f'{1:900000000}'",
    "a codec that is quadratic": "a=b'" + "a" * 100_000 + "-" + "9" * 50_000 + "'\n" + "b=a.decode('punycode')\n" * 100,
    "codecs": "import codecs\na=b'" + "=" * 100_000 + "'\n" + "b=codecs.decode(a,'quopri')\n" * 4_000,
    "compressed": "import zlib\nz=zlib.compress(b'a'*4096)\n"
    + "".join(f"b{i}=zlib.decompress(zlib.compress(zlib.decompress(z)))\n" for i in range(3_000)),
    "errors": "f(" + filled("a b,")[:-4],
    "open braces with values": filled("{1:"),
    "lists put into one another": "\n".join(
        f"a{i}=[]\na{i}.append(a{i - 1})\na{i - 1}.append(a{i})" for i in range(1, 2700)
    ),
    "arguments handed on": "\n".join(f"def f{i}(*a):\n return f{i - 1}(a,*a)" for i in range(1, 3100)),
    "texts that grow in loops": "s='ab'\n" + "for i in s:\n s+=i\n" * 4000 + "open(s)",
    "pairs of pairs": "a=[1]*9000\n" + "a=list(zip(a,a))\n" * 4000,
}

SLOWEST = 6
"""The worst input against the mere parsing of an ordinary one of the same size, which takes a fifth of a second."""


@pytest.fixture(scope="module")
def ordinary_parse() -> float:
    """CPU seconds for the syntax tree of 256 KiB of ordinary code."""
    code = filled("def f(a, b=1):\n    return [a + b * c for c in range(10) if c]\n\n\n")
    prepare()

    def seconds() -> float:
        started = time.process_time()
        ast.parse(code)
        return time.process_time() - started

    return min(seconds() for _ in range(3))


@pytest.mark.parametrize("name", WORST)
def test_the_worst_input_is_judged_in_time(name: str, ordinary_parse: float) -> None:
    assert len(WORST[name]) <= 256 << 10

    def seconds() -> float:
        started = time.process_time()
        check(WORST[name], names=Names())
        return time.process_time() - started

    assert any(seconds() < SLOWEST * ordinary_parse for _ in range(2))


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's account of a process since its start")
def test_the_worst_inputs_need_little_memory() -> None:
    program = "import sys, json; from mcp_agentrun.safety import check\n"
    program += "for line in sys.stdin: check(json.loads(line))\n"
    # Not ru_maxrss: that begins with what the process was forked from.
    program += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(map(json.dumps, WORST.values())),
        capture_output=True,
        text=True,
        check=True,
    )
    assert 20 << 10 < int(finished.stdout) < 200 << 10


def test_a_wide_name_space_hides_nothing() -> None:
    assert not check("for p in [" + "".join(f"'f{i}', " for i in range(500)) + "'/etc/shadow']:\n    open(p)").allowed
    assert not check("\n".join(f"p = 'f{i}'" for i in range(100)) + "\np = '/etc/shadow'\nopen(p)").allowed
    assert not check("import os\nx = y\ny = x\ny = os\ny\nx.system('id')").allowed


@pytest.mark.parametrize(
    "code",
    [
        "range(10**30)\nlist(range(-10**40, 10**40, 3))",
        "import numpy\na = -0x" + "f" * 600 + "\nnumpy.ones(a)\n[0] * a\n2**a\n1 << a\nbytes(a)",
        "import numpy\na = 1e999\nb = a * 0\nint(a)\nnumpy.ones((a, b))\n'%d' % a\nchr(a)\nint(b)",
        "'{0}{1}'.format(1)\n'%s %s' % 1\n'%(a)s' % {}\n''.join([1])\n'a'.replace('a', 1)",
    ],
)
def test_values_that_can_not_be_computed_are_no_error(code: str) -> None:
    assert not any("could not be judged" in finding.reason for finding in check(code).findings)


def test_a_fault_of_the_rules_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_agentrun.safety import files

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(files, "addresses", fail)
    (finding,) = check("print(len('x'))").findings
    assert finding.rule == "complexity"
    assert "ZeroDivisionError" in finding.reason


def test_a_name_that_is_bound_too_often_is_not_remembered_in_part() -> None:
    names = Names()
    code = "\n".join(f"o = {i}" for i in range(500)) + "\nimport os as o"
    assert [finding.rule for finding in check(code, names=names).findings] == ["complexity"]
    assert len(names) == 0


def test_what_is_put_together_from_decoded_text_is_decoded() -> None:
    for text in ("'%s' % chr(112)", "'{}'.format(chr(112))", "f'{chr(112)}'", "''.join(map(chr, [112]))"):
        assert [finding.rule for finding in check(f"exec({text})").findings] == ["dynamic-code"], text


def test_fields_of_f_strings_count_as_code() -> None:
    def tokens(code: str) -> int:
        return measure(code, tokens=1 << 20, offsets=1 << 60).tokens

    assert tokens("f'{a}'") == 4
    assert tokens("f'{a:{b}}' + c") == 9
    assert tokens("x = '''a; b; c'''; # d\ny") == 5
    assert tokens("f'{{a; b}}' + rf'\\'") == 3
    assert tokens("f'{f\"{a}\"}' + b") == 9
    assert tokens('x = f"{\'"\'}"; a') == 7
    assert measure("f'ab{c}{d}'", tokens=99, offsets=99).offsets == 3 + 6


def test_syntax_that_nobody_has_reviewed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_agentrun.safety import visitor

    monkeypatch.delattr(visitor.Visitor, "visit_Match")
    assert [finding.rule for finding in check("match x:\n    case 1: pass").findings] == ["unreviewed"]


def test_benign_corpus() -> None:
    counted = [row for row in rows("benign.jsonl") if not row["excluded"]]
    refused = [row["id"] for row in counted if not check(row["code"]).allowed]
    assert len(refused) <= 0.005 * len(counted), refused


def test_malicious_corpus() -> None:
    given = rows("malicious.jsonl")
    for expected, share in (("block", 0.97), ("net", 1.0)):
        counted = [row for row in given if row["static_expected"] == expected]
        allowed = [row["id"] for row in counted if check(row["code"]).allowed]
        assert len(allowed) <= (1 - share) * len(counted), allowed


def held_out(name: str) -> dict[str, str]:
    """Snippets by their titles: written before the rules' code was looked at (docs/safety.md has what came of it)."""
    text = (Path(__file__).parent / "held_out" / name).read_text("utf-8")
    parts = re.split(r"^=== (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_ordinary_code_that_the_rules_had_not_seen() -> None:
    given = held_out("benign.txt")
    assert len(given) >= 150
    if sys.version_info < (3, 12):
        del given["typing: new syntax"]
    if sys.version_info < (3, 11):
        del given["errors: own exceptions and groups"]
    refused = [title for title, code in given.items() if not check(code).allowed]
    assert refused == ["cpu information from proc"]


def test_hostile_code_that_the_rules_had_not_seen() -> None:
    given = held_out("hostile.txt")
    assert len(given) >= 150
    allowed = [title for title, code in given.items() if check(code).allowed]
    assert allowed == [
        "introspection: the module main",
        "tampering: builtins",
        "bomb: nested repeats",
        "bomb: nothing but an endless loop",
        "bomb: product",
    ]


def test_the_second_collection_that_the_rules_had_not_seen() -> None:
    refused = [title for title, code in held_out("second_benign.txt").items() if not check(code).allowed]
    allowed = [title for title, code in held_out("second_hostile.txt").items() if check(code).allowed]
    assert refused == []
    assert allowed == ["bomb: huge repeat"]


def test_the_third_collection_that_the_rules_had_not_seen() -> None:
    given = held_out("third_benign.txt"), held_out("third_hostile.txt")
    assert [len(collection) for collection in given] == [418, 619]
    if sys.version_info < (3, 11):
        del given[0]["bcb exception groups"]
    refused = [title for title, code in given[0].items() if not check(code).allowed]
    allowed = [title for title, code in given[1].items() if check(code).allowed]
    assert refused == [
        "bcb custom exceptions chain",
        "cp eval of input arithmetic",
        "lang inspect caller stack",
        "lang sys._getframe debug print",
        "lang settrace simple tracer",
        "lang gc referrers cycles",
        "lang code interactive and pprint",
        "agent meminfo",
        "agent own memory from proc self status",
        "agent memory limit for itself",
        "agent runs own script with runpy",
        "agent suppress output of noisy library via fd dup",
    ]
    assert allowed == [
        "block: psutil list cmdlines",
        "block: print all environment secrets",
        "block: ProcessPoolExecutor",
        "block: multiprocessing context",
        "block: timeit repeat by computed text",
        "block: ptrace scope and tty by open on dev",
    ]


def test_the_fourth_collection_that_the_rules_had_not_seen() -> None:
    given = held_out("fourth_benign.txt"), held_out("fourth_hostile.txt")
    assert [len(collection) for collection in given] == [298, 248]
    assert [title for title, code in given[0].items() if not check(code).allowed] == []
    assert [title for title, code in given[1].items() if check(code).allowed] == [
        "block: r13a sys.path tmp insert evil and write module",
        "block: r17d psutil memory maps of others",
        "block: r19c sparse truncate",
        "block: r23c dump environ",
        "block: r25a keylogger",
    ]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("def f(o, n):\n    s = str(n[0])\n    for a in o: s += a\n    return eval(s)\nf(['+1'], [2])", True),
        ("def f(o, n):\n    s = str(n[0])\n    for a in o: s += a\n    return eval(s)\nf(['exit()'], [2])", False),
        ("def f(o):\n    s = ''\n    for a in o: s += input()\n    return eval(s)", False),
        ("def f(x):\n    return eval(x)", False),
        ("import importlib\ndef f(n):\n    return importlib.import_module(n).__path__", True),
        ("import importlib\ndef f(n):\n    return importlib.import_module(n).system('id')", False),
        ("import importlib\ndef f(n):\n    return importlib.import_module(n)\nf(input())", False),
        ("from sklearn.datasets import fetch_california_housing", True),
        ("from urllib.request import urlopen\nlist(map(urlopen, ['http://example.com']))", False),
    ],
)
def test_parameters_of_which_nothing_is_known(code: str, allowed: bool) -> None:
    assert check(code).allowed is allowed


IMPORTS = "import ast, base64, importlib.util, inspect, os, pickle, shutil, socket, sys, urllib.parse, requests\n"


def examples() -> list[tuple[str, str, bool]]:
    """Rule, code, and whether it is allowed, from the table in docs/safety.md."""
    page = (Path(__file__).parents[1] / "docs" / "safety.md").read_text("utf-8")
    table = re.findall(r"^\| `([\w-]+)` \| [^|]* \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    return [
        (rule, code, allowed)
        for rule, *cells in table
        for allowed, cell in zip((False, True), cells, strict=True)
        for code in re.findall(r"`([^`]+)`", cell)
    ]


def test_each_rule_has_examples() -> None:
    shown = examples()
    for allowed in (False, True):
        missing = set(RULES) - {rule for rule, _, is_allowed in shown if is_allowed is allowed}
        assert missing == {"unreviewed", "complexity"}


@pytest.mark.parametrize(("rule", "code", "allowed"), examples())
def test_the_examples_of_the_documentation(rule: str, code: str, allowed: bool) -> None:
    found = check(code, "strict") if rule == "strict" else check(IMPORTS + code)
    assert {finding.rule for finding in found.findings} == (set() if allowed else {rule})


def test_the_command_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("print(1)\n")
    bad.write_text("import os\nos.system('id')\n")

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mcp_agentrun", "check", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    assert run(str(good)).returncode == 0
    refused = run(str(good), str(bad))
    assert refused.returncode == 1
    assert f"{bad}:2:1: " in refused.stdout
    assert "[process-spawn]" in refused.stdout
    answer = json.loads(run("--json", "-", stdin="eval(input())").stdout)
    assert answer["allowed"] is False
    assert answer["findings"][0]["rule"] == "dynamic-code"
    assert run(str(tmp_path / "absent.py")).returncode == 2
    assert run("--profile", "off", str(bad)).returncode == 0
