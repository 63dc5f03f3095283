"""Notebook syntax that has no counterpart in Python is a `SyntaxError` at the line that has it."""

from __future__ import annotations

import pytest

from mcp_agentrun.notebook import as_python, translate


@pytest.mark.parametrize(
    ("code", "line", "message"),
    [
        ('%%writefile "data.csv\na,b', 1, "%%writefile: malformed file name (No closing quotation)"),
        ("%%R\nx <- 1", 1, "%%R is not available here: write it in Python"),
        ("x = 1\n%%bash\nls", 2, "%%bash is not available here: write it on the first line"),
        ("%timeit if x: y", 1, "write if ... on the lines below %%time or %%timeit"),
        ("x = 1\n\n%debug", 3, "%debug is not available here: print the values that you want to see"),
    ],
)
def test_what_has_no_counterpart_is_named_with_its_line(code: str, line: int, message: str) -> None:
    with pytest.raises(SyntaxError) as raised:
        translate(code)
    assert str(raised.value.msg).startswith(message) and raised.value.lineno == line
    assert as_python(code) == (code, [])
