"""The static check in a Python that is newer than it, of which it must not claim to know the syntax."""

from __future__ import annotations

import json
import subprocess

from tests.support import CHECKOUT
from tests.support.nodejs import node_environment

FOLDER = CHECKOUT / "tests" / "long" / "later_python"


def test_syntax_of_python_3_14_is_told_as_such() -> None:
    done = subprocess.run(
        ["node", "check.mjs", str(CHECKOUT / "mcp_agentrun" / "safety")],
        cwd=FOLDER,
        env=node_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    version, (t_string, except_without_parentheses, f_string) = json.loads(done.stdout)
    assert version == [3, 14]
    reason = "`TemplateStr` is syntax of a later Python, which this check does not know."
    assert t_string == [["unreviewed", 2, 7, reason, "Write it in older syntax."]]
    assert except_without_parentheses == f_string == []
