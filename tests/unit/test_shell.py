"""`mcp-agentrun shell`, as far as it needs no engine: when code is complete, pictures in terminals, and what it says
where it can't run.
"""

from __future__ import annotations

import importlib.util

import pytest

from mcp_agentrun.cli.pictures import inline_picture
from mcp_agentrun.cli.repl import exit_code_of, is_complete, next_indent, words_of
from mcp_agentrun.errors import AgentRunError
from mcp_agentrun.sandbox import Image, Output, Result, RunError
from tests.support.command_line import command


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "f(1,\n  2)",
        "x = 1; y = 2",
        "if x:\n    y\n",
        "if x:\n    y\n\n",
        "def f():\n    return 1\n",
        "x = = 1",
        "'unterminated",
        ":install x",
        "!ls",
        "%timeit x",
        "s = '''a\nb'''",
        "\0",
    ],
)
def test_code_that_is_run_when_enter_is_pressed(code: str) -> None:
    assert is_complete(code)


@pytest.mark.parametrize(
    "code",
    ["if x:", "def f():\n    return 1", "f(1,", "s = '''a", "if x:\n    y\nelse:", "@d", "x = \\", "for i in x:\n"],
)
def test_code_that_goes_on_when_enter_is_pressed(code: str) -> None:
    assert not is_complete(code)


def test_the_next_line_is_indented_as_the_last_one() -> None:
    assert [next_indent(line) for line in ("x = 1", "if x:", "    y", "    if y:  ", "")] == [
        "",
        "    ",
        "    ",
        " " * 8,
        "",
    ]


@pytest.mark.parametrize(
    "code", ["exit()", "quit()", "import sys; sys.exit()", "raise SystemExit", "raise SystemExit(0)"]
)
def test_an_exit_with_code_0_leaves_the_shell(code: str) -> None:
    assert exit_code_of(code, Result("ok", Output(), 0.0, exit_code=0)) == 0


@pytest.mark.parametrize("code", ["x = 1", "def f():\n    exit()", "%time exit()", "exit", "print(exit)"])
def test_other_code_does_not_leave_the_shell(code: str) -> None:
    assert exit_code_of(code, Result("ok", Output(), 0.0, exit_code=0)) is None
    failed = Result("error", Output(), 0.0, exit_code=1, error=RunError("NameError", "name 'x' is not defined", 1))
    assert exit_code_of("exit(x)", failed) is None


def test_another_exit_code_leaves_the_shell_wherever_it_comes_from() -> None:
    ended = Result("error", Output(), 0.0, exit_code=3, error=RunError("SystemExit", "3", 1))
    assert exit_code_of("f()", ended) == 3


def test_names_of_a_command_may_be_quoted() -> None:
    assert words_of(""":save "a b.txt" 'c d'/x#y""") == [":save", "a b.txt", "c d/x#y"]
    with pytest.raises(AgentRunError, match="quotation mark"):
        words_of(':save "a b')


@pytest.mark.parametrize("environ", [{}, {"TERM": "xterm"}, {"TERM_PROGRAM": "iTerm.app", "TMUX": "x"}])
def test_terminals_that_can_not_show_pictures(environ: dict[str, str]) -> None:
    assert inline_picture(Image(b"png", 1, 1), environ) is None


def test_pictures_in_terminals_that_can() -> None:
    assert inline_picture(Image(b"png", 1, 1), {"TERM_PROGRAM": "WezTerm"}) == ("\x1b]1337;File=inline=1;size=3:cG5n\a")
    kitty = inline_picture(Image(bytes(6000), 1, 1), {"KITTY_WINDOW_ID": "1"})
    assert kitty is not None
    first, second, rest = kitty.split("\x1b\\")
    assert first == "\x1b_Gf=100,a=T,m=1;" + "A" * 4096
    assert second == "\x1b_Gm=0;" + "A" * 3904
    assert rest == ""


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_it(name: str) -> object:
        return None if name == "prompt_toolkit" else importlib.util.find_spec(name)

    monkeypatch.setattr("mcp_agentrun.cli.shell.find_spec", without_it)
    ended = command("shell")
    assert ended.returncode == 1
    assert ended.stderr == (
        "Error: The shell needs prompt_toolkit. Install mcp-agentrun again, with the extra `shell`: uv tool install "
        "(pipx install --force, pip install) 'mcp-agentrun[shell]'; in a clone, '.[shell]'\n"
    )


def test_without_a_terminal_another_command_is_named() -> None:
    ended = command("shell", stdin="1 + 1")
    assert ended.returncode == 2
    assert "The shell needs a terminal. To run code from a pipe: mcp-agentrun run -" in ended.stderr
