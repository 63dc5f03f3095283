"""What may be asked of the installer, pure."""

from __future__ import annotations

import pytest

from mcp_agentrun.errors import InvalidRequestError
from mcp_agentrun.packages.policy import parse_requirements


@pytest.mark.parametrize(
    ("packages", "parsed"),
    [
        ("requests", ("requests",)),
        ("numpy>=1,<2", ("numpy<2,>=1",)),
        ("requests, rich  six", ("requests", "rich", "six")),
        ("requests\nrich>=13\n", ("requests", "rich>=13")),
        (["requests", "rich[jupyter] >= 13 ; python_version > '3.8'"], None),
        (["six", "six"], ("six",)),
    ],
)
def test_requirements_are_understood(packages: str | list[str], parsed: tuple[str, ...] | None) -> None:
    result = parse_requirements(packages)
    assert parsed is None or result == parsed


@pytest.mark.parametrize(
    "packages",
    [
        "",
        [],
        "  \n ",
        "-r requirements.txt",
        "--index-url=https://example.org x",
        "requests @ https://example.org/x.whl",
        "git+https://example.org/x.git",
        "https://example.org/x.whl",
        "./local",
        "/etc/passwd",
        "../x",
        "file:///etc/passwd",
        "six; rm -rf /",
        "six\x00",
        "six\x1b[31m",
        "$(id)",
        "six && id",
        ["x" * 1000],
        [f"p{i}" for i in range(51)],
    ],
)
def test_everything_else_is_refused(packages: str | list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        parse_requirements(packages)


@pytest.mark.parametrize("text", ["pip install rich", "please install the requests package", "uv add numpy"])
def test_a_command_or_a_sentence_is_no_list_of_names(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_requirements(text)
