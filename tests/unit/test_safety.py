"""The static check by itself: what it refuses, what it allows, and that no input can hurt it."""

from __future__ import annotations

import ast
import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_agentrun.safety import PROFILES, Profile, check
from mcp_agentrun.safety.guards import MAX_BYTES
from mcp_agentrun.safety.rules import built_in_rules, parse_rules
from tests.support import CHECKOUT
from tests.support.command_line import command

RULES = {rule.id: rule for rule in built_in_rules()}
HOSTILE = "import shutil; shutil.rmtree('/')"


def rows(name: str) -> list[tuple[str, str, str]]:
    """Rule or ``ok``, reason and code of each row of a file of ours."""
    parts = re.split(
        r"^=== ([\w-]+): (.*)\n", (CHECKOUT / "tests" / "safety" / name).read_text("utf-8"), flags=re.MULTILINE
    )
    return list(zip(parts[1::3], parts[2::3], parts[3::3], strict=True))


def found(code: str, profile: Profile = "standard", **options: Any) -> list[str]:
    return [finding.rule for finding in check(code, profile, **options).findings]


@pytest.mark.parametrize(("rule", "reason", "code"), rows("standard.txt"))
def test_standard(rule: str, reason: str, code: str) -> None:
    verdict = check(code)
    assert sorted({finding.rule for finding in verdict.findings}) == ([] if rule == "ok" else [rule])
    for finding in verdict.findings:
        assert 1 <= finding.line <= code.count("\n") + 1
        assert finding.column >= 1
        assert finding.reason.endswith(".")
        assert finding.remedy.endswith(".")


@pytest.mark.parametrize(("rule", "reason", "code"), rows("strict.txt"))
def test_strict(rule: str, reason: str, code: str) -> None:
    assert (rule in found(code, "strict")) if rule != "ok" else check(code, "strict").allowed


def test_each_rule_has_rows() -> None:
    shown = {rule for name in ("standard.txt", "strict.txt") for rule, _, _ in rows(name)}
    assert shown - {"ok"} == set(RULES) - {"unreviewed"}


def test_the_page_shows_the_rules_as_they_are() -> None:
    page = (CHECKOUT / "docs" / "safety.md").read_text("utf-8")
    table = "".join(f"| `{rule.id}` | {rule.profile} | {rule.title} |\n" for rule in built_in_rules())
    assert table in page


@pytest.mark.parametrize("code", ["x = 1 +", "def f(:", "print 'x'", "for", "\tx = 1\n  y = 2", "retur("])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_syntax_error_is_reported_as_one(code: str, profile: Profile) -> None:
    verdict = check(code, profile)
    assert verdict.is_syntax_error
    assert [finding.rule for finding in verdict.findings] == ["syntax"]


GUARDED = {
    "nul": "x = '\0'",
    "unicode": "x = '\ud800'",
    "cookie": "# -*- coding: utf-7 -*-\nprint(1)",
    "size": "x" * (MAX_BYTES + 1),
    "nodes": "a;" * 60_000,
    "nesting": "x = " + "-" * 500 + "1",
}


@pytest.mark.parametrize("rule", GUARDED)
@pytest.mark.parametrize("profile", PROFILES)
def test_guards_hold_in_every_profile(rule: str, profile: Profile) -> None:
    verdict = check(GUARDED[rule], profile, warn=True)
    assert not verdict.allowed
    assert [finding.rule for finding in verdict.findings] == [rule]


@pytest.mark.parametrize(
    "prefix",
    ["# coding: utf-8\n", "\f", "#!/usr/bin/python\n# vim: set fileencoding=ascii :\n", "# x\r", "\n\f"],
)
def test_what_comes_before_the_code_hides_nothing(prefix: str) -> None:
    assert found(prefix + HOSTILE) == ["destruction"]


def test_a_byte_order_mark_is_a_syntax_error() -> None:
    assert check("\ufeff" + HOSTILE).is_syntax_error


def test_places_are_counted_in_lines_and_characters() -> None:
    (finding,) = check("# a comment\rimport shutil\r'äö'; shutil.rmtree('/')\r").findings
    assert (finding.line, finding.column) == (3, 7)


@pytest.mark.parametrize(
    "code",
    [
        "(" * 100_000,
        '\\"a;' * 50_000,
        "'''" * 50_001,
        '\n"""\n' * 30_001,
        "-" * 200_000 + "1",
        "f'" + "{a}" * 100_000 + "'",
        "x = x + x\n" * 13_000,
        "x = x.a\n" * 13_000,
        "x = x[0]()\n" * 8_000,
        "'a' + " * 390 + "'a'",
        "x = 'ab'\n" + "x = x + x\n" * 9_000,
        "x = [1, 2]\n" + "x = x + x\n" * 9_000,
        "x = [0]\n" + "x = [x, x]\n" * 9_000 + "open(x)",
        "import os\nos.system('" + "rm -" * 60_000 + "')",
        "import os\nos.system('" + ";" * 200_000 + "')",
        "open('" + "/" * 200_000 + "')",
        "open('" + "*/../" * 40_000 + "')",
        "'" + "{}" * 100_000 + "'.format(1)",
        "2 ** 10 ** 10 ** 10 ** 10",
        "1 << (1 << (1 << 60))",
        "1e308 * 1e308 ** 9",
        "[0] * -1; [0] * True; 'a' * 0.5; range(1, 2, 0); range(10**400); bytes(10**400); 0 ** -1; 1 << -1",
        "print(" + "1," * 150_000 + ")",
    ],
)
@pytest.mark.parametrize("profile", PROFILES)
def test_no_input_hurts_the_check(code: str, profile: Profile) -> None:
    assert check(code, profile).findings is not None


def test_rules_can_be_switched_off() -> None:
    assert check(HOSTILE, off=["destruction"]).allowed
    assert not check(HOSTILE, off=["secrets"]).allowed
    assert check("async def f(): pass", "strict", off=["restricted-python"]).allowed
    assert check(HOSTILE, "off").findings == ()
    verdict = check(HOSTILE, warn=True)
    assert verdict.allowed
    assert verdict.findings


def test_imports_are_named_for_those_who_install_them() -> None:
    assert check("import os.path, numpy as np\nfrom scipy.stats import norm\nfrom . import x").imports == (
        "numpy",
        "os",
        "scipy",
    )


def test_syntax_of_a_later_python_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_agentrun.safety import walker

    known = {"reviewed_syntax": "Module Expr Call Name Load Constant"}
    monkeypatch.setattr(walker, "rules_document", lambda: known)
    (finding,) = check("x = 1\nprint(x)").findings
    assert (finding.rule, finding.line) == ("unreviewed", 1)
    assert "later Python" in finding.reason
    assert check("x = 1", off=["unreviewed"]).allowed


@pytest.mark.skipif(sys.version_info < (3, 14), reason="syntax of Python 3.14")
def test_new_syntax_of_python_3_14_is_reported_as_such() -> None:
    (finding,) = check("name = 1\nprint(t'{name}')").findings
    assert tuple(finding) == (
        "unreviewed",
        2,
        7,
        "`TemplateStr` is syntax of a later Python, which this check does not know.",
        "Write it in older syntax.",
    )
    assert check("try: pass\nexcept ValueError, TypeError: pass").allowed


def test_all_that_python_has_was_reviewed() -> None:
    old = {
        "Num",
        "Str",
        "Bytes",
        "NameConstant",
        "Ellipsis",
        "Index",
        "ExtSlice",
        "Suite",
        "AugLoad",
        "AugStore",
        "Param",
    }
    kinds = {
        name
        for name, kind in vars(ast).items()
        if isinstance(kind, type)
        and issubclass(kind, ast.AST)
        and not kind.__subclasses__()
        and kind is not ast.AST
        and not name.startswith("_")
    }
    unasked = {"Load", "Store", "Del", "Interactive", "Expression", "FunctionType", "TypeIgnore", "slice"}
    operators = {name for name in kinds if issubclass(getattr(ast, name), ast.operator)}
    from mcp_agentrun.safety.rules import rules_document

    missing = kinds - old - unasked - operators - set(rules_document()["reviewed_syntax"].split())
    assert missing <= {"TemplateStr", "Interpolation"}


OWN = """
[[rule]]
id = "own"
title = "t"
reason = "{name}: {what}."
remedy = "r"
[[rule.when]]
calls = ["@readers"]
paths = ["/workspace/private/*"]
"""


def test_an_operators_rules_apply_beside_ours() -> None:
    (finding,) = check("open('private/a.csv')", rules=OWN).findings
    assert (finding.rule, finding.reason) == ("own", "`open`: `/workspace/private/a.csv`.")
    assert found(HOSTILE, rules=OWN) == ["destruction"]
    assert found("open('private/a.csv')", rules=OWN, off=["own"]) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[rule]]", "[[rule]", "line"),
        ('remedy = "r"', "", "remedy"),
        ("calls =", "cals =", "no fields but"),
        ("@readers", "@nothing", "'nothing'"),
        ("{what}", "{whom}", "'whom'"),
        ('title = "t"', 'title = "t"\nprofile = "lax"', "no profile 'lax'"),
        ('title = "t"', 'title = "t"\ncolour = "red"', "colour"),
        ('calls = ["@readers"]\n', "", "names, endless or calls"),
        ('["/workspace/private/*"]', "7", "rule 'own'"),
    ],
)
def test_malformed_rules_are_reported(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_rules(OWN.replace(old, new))


def test_the_command_line(tmp_path: Path) -> None:
    good, bad, own = tmp_path / "good.py", tmp_path / "bad.py", tmp_path / "own.toml"
    good.write_text("print(open('private/a.csv').read())\n")
    bad.write_text("import shutil\nshutil.rmtree('/')\n")
    own.write_text(OWN)

    run = functools.partial(command, "check")
    assert run(str(good)).returncode == 0
    refused = run(str(good), str(bad))
    assert refused.returncode == 1
    assert f"{bad}:2:1: " in refused.stdout
    assert "[destruction]" in refused.stdout
    answer = json.loads(run("--json", "-", stdin="open('/etc/shadow')").stdout)
    assert answer["allowed"] is False
    assert answer["findings"][0]["rule"] == "secrets"
    for cell in ("!pip install x\n!ls", "```python\n%time 1\n```", ">>> print(1)\n1", "%pip install -r x.txt"):
        assert run("-", stdin=cell).returncode == 0, cell
    assert "[secrets]" in run("-", stdin="%matplotlib inline\nopen('/etc/shadow')").stdout
    assert run(str(tmp_path / "absent.py")).returncode == 2
    assert run("--profile", "off", str(bad)).returncode == 0
    assert "[own]" in run("--safety-rules", str(own), str(good)).stdout
