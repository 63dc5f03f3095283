"""`mcp-agentrun run`: what it makes of its words, which files it copies, and what it shows. Nothing here needs an
engine.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import click
import pytest

from mcp_agentrun import Result
from mcp_agentrun.cli.outcomes import exit_code, explain
from mcp_agentrun.cli.pictures import save_pictures
from mcp_agentrun.cli.program import COPIED_FILES, Program, files_in
from mcp_agentrun.cli.progress import Progress
from mcp_agentrun.cli.streams import TerminalFilter, read_stdin
from mcp_agentrun.errors import InvalidRequestError
from mcp_agentrun.safety import check
from mcp_agentrun.sandbox import Image, Outcome, Output
from mcp_agentrun.sandbox.result import RunError
from mcp_agentrun.settings import Settings
from tests.support.command_line import command


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_named_as_python_names_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "tool.py").write_bytes("\ufeff# -*- coding: utf-8 -*-\r\nx = 'é'\r\n".encode())
    program = Program.from_words(["sub/tool.py", "--flag", "two words", "-c"])
    assert program.argv == ["sub/tool.py", "--flag", "two words", "-c"]
    assert (program.filename, program.stem, program.folder) == ("/workspace/tool.py", "tool", folder / "sub")
    assert program.code == "# -*- coding: utf-8 -*-\nx = 'é'\n"


@pytest.mark.parametrize("first", ["", "#!/usr/bin/env python\n", "\n"])
def test_a_file_may_be_in_another_encoding(folder: Path, first: str) -> None:
    (folder / "old.py").write_bytes(f"{first}# coding: latin-1\nprint('é')\n".encode("latin-1"))
    code = Program.from_words(["old.py"]).code
    assert code == f"{first}# coding: utf-8\nprint('é')\n"
    assert check(code).allowed
    assert command("check", "old.py").returncode == 0


def test_a_folder_and_a_name_with_a_dash_are_programs(folder: Path) -> None:
    (folder / "tool").mkdir()
    for path in (folder / "tool" / "__main__.py", folder / "-dash.py"):
        path.write_text("print(1)")
    program = Program.from_words(["tool/", "-v"])
    assert (program.filename, program.folder, program.argv) == (
        "/workspace/__main__.py",
        folder / "tool",
        ["tool/", "-v"],
    )
    assert Program.from_words(["-dash.py"]).filename == "/workspace/-dash.py"


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_a_name_that_is_not_unicode_has_a_replacement_in_the_sandbox(folder: Path) -> None:
    name = os.fsdecode(b"b\xff.py")
    (folder / name).write_text("print(1)")
    program = Program.from_words([name])
    assert (program.filename, program.stem, program.file) == ("/workspace/b\ufffd.py", "b\ufffd", folder / name)


def test_a_program_that_is_too_long_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    error = InvalidRequestError("split it over several calls", argument="code", limit=1 << 18)

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr("mcp_agentrun.process_exit.run_interruptibly", refuse)
    ended = command("run", "-c", "pass")
    assert ended.returncode == 125
    assert "more than 256 KiB. Give a larger --code-limit" in ended.stderr and "calls" not in ended.stderr


def test_a_pipe_is_read_once_and_has_nothing_beside_it() -> None:
    read, write = os.pipe()
    os.write(write, b"print(1)")
    os.close(write)
    path = f"/dev/fd/{read}"
    program = Program.from_words([path, "a"])
    os.close(read)
    assert (program.code, program.argv, program.filename, program.folder) == ("print(1)", [path, "a"], path, None)


def test_code_modules_and_standard_input_are_named_as_python_names_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Program.from_words(["-c", "print(1)", "-x", "y"])
    assert (code.code, code.argv, code.filename, code.folder) == ("print(1)", ["-c", "-x", "y"], "<string>", None)
    module = Program.from_words(["-m", "json.tool", "--indent", "1"])
    assert (module.argv, module.folder, module.stem) == (["-m", "--indent", "1"], None, "json.tool")
    (folder / "mine.py").touch()
    assert Program.from_words(["-m", "mine"]).folder == folder
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"print(2)")))
    stdin = Program.from_words(["-", "a"])
    assert (stdin.code, stdin.argv, stdin.filename, stdin.reads_stdin) == ("print(2)", ["-", "a"], "<stdin>", False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name a file, -, -c CODE or -m MODULE."),
        (["-c"], "Argument expected for the -c option"),
        (["-m"], "Argument expected for the -m option"),
        (["-m", "a-b"], "'a-b' is not the name of a module"),
        (["--bogus", "x.py"], "No such option: --bogus"),
        (["missing.py"], "missing.py can't be read: No such file or directory"),
        (["."], "can't find '__main__.py' in ."),
        (["binary.py"], "binary.py is not valid Python"),
        (["hex.py"], "hex.py is not valid Python"),
    ],
)
def test_what_can_not_be_run_is_a_usage_error(folder: Path, words: list[str], message: str) -> None:
    (folder / "binary.py").write_bytes(b"\xff\xfe")
    (folder / "hex.py").write_bytes(b"# coding: hex\n")
    with pytest.raises(click.UsageError) as raised:
        Program.from_words(words)
    assert raised.value.message.startswith(message)


def test_options_end_where_the_program_begins() -> None:
    ended = command("run", "--memory", "1", "-c", "pass", "--memory", "nonsense", "--help")
    assert ended.returncode == 2
    assert "must not exceed memory" in ended.stderr
    assert "nonsense" not in ended.stderr


def test_no_engine_is_one_line_and_exit_code_125() -> None:
    ended = command("run", "-c", "pass")
    assert ended.returncode == 125
    assert ended.stderr.startswith("mcp-agentrun: ")
    assert "Traceback" not in ended.stderr


def test_the_files_beside_a_script_are_copied_nearest_first(folder: Path) -> None:
    for name in ("b.txt", "a.py", "sub/c.txt", ".hidden", ".git/x", "__pycache__/x", "venv/lib/x", "venv/pyvenv.cfg"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    (folder / "link").symlink_to("b.txt")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(".")
    (folder / "circle").symlink_to("circle")
    paths, skipped = files_in(folder, {"a.py"})
    assert [path.relative_to(folder).as_posix() for path in paths] == ["b.txt", "link", "sub/c.txt"]
    assert skipped == 0


def test_there_are_limits_to_what_is_copied(folder: Path) -> None:
    (folder / "large").write_bytes(bytes((32 << 20) + 1))
    (folder / "small").write_bytes(b"x")
    paths, skipped = files_in(folder, ())
    assert ([path.name for path in paths], skipped) == (["small"], 1)
    (folder / "sub").mkdir()
    for number in range(COPIED_FILES + 5):
        (folder / "sub" / f"{number}").touch()
    paths, skipped = files_in(folder, ())
    assert (len(paths), skipped) == (COPIED_FILES, 7)


def test_pictures_replace_nothing(folder: Path) -> None:
    (folder / "plot-1.png").write_bytes(b"mine")
    saved = save_pictures([Image(b"one", 1, 1), Image(b"two", 1, 1)], folder / ".", "plot")
    assert [path.name for path in saved] == ["plot-2.png", "plot-3.png"]
    assert [path.read_bytes() for path in (folder / "plot-1.png", *saved)] == [b"mine", b"one", b"two"]


@pytest.mark.parametrize(
    ("outcome", "code", "shown"),
    [
        ("ok", 0, 0),
        ("error", 3, 3),
        ("crashed", -11, 139),
        ("memory_limit", -9, 137),
        ("timeout", 130, 124),
        ("cancelled", 130, 130),
        ("blocked", None, 126),
    ],
)
def test_exit_codes_are_those_that_a_shell_knows(outcome: Outcome, code: int | None, shown: int) -> None:
    assert exit_code(Result(outcome, Output(), 0.0, exit_code=code)) == shown


def test_a_note_names_what_installs_a_missing_package_here(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result("error", Output(), 0.0, error=RunError("ModuleNotFoundError", "No module named 'x'", 1))
    for install in ("--package", ":install"):
        explain(result, Settings(), install=install)
        assert capsys.readouterr().err == f"mcp-agentrun: install what is missing with {install} NAME.\n"


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (["plain é\r\n\ttext\b\a"], "plain é\r\n\ttext\b\a"),
        (["\x1b[1;31mred\x1b[0m \x1b[2K\x1b[1A"], "\x1b[1;31mred\x1b[0m \x1b[2K\x1b[1A"),
        (["\x1b[1;", "31mred"], "\x1b[1;31mred"),
        (["a\x1b]0;title\x07b\x1b]52;c;eA==\x1b\\c"], "abc"),
        (["a\x1b[6nb\x1b[?1049hc\x1bPq\x1b\\d\x9b6ne"], "abcde"),
        (["a\x0eb\x00c\x85d"], "abcd"),
        (["end\x1b"], "end"),
    ],
)
def test_a_terminal_gets_text_and_colours_only(parts: list[str], shown: str) -> None:
    terminal = TerminalFilter()
    assert (
        b"".join([*(terminal.feed(part.encode()) for part in parts), terminal.feed(b"", final=True)]) == shown.encode()
    )


def test_a_character_that_is_cut_stays_whole() -> None:
    terminal = TerminalFilter()
    assert terminal.feed(b"\xc3") + terminal.feed(b"\xa9") == "é".encode()


async def test_a_terminal_is_empty_for_a_process_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Mock(fileno=lambda: 0))
    for number in (errno.EIO, errno.EISDIR):

        def refuse(*_: object, number: int = number) -> bytes:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "read", refuse)
        expected = contextlib.nullcontext() if number == errno.EIO else pytest.raises(OSError, match="refused")
        with expected:
            assert [data async for data in read_stdin()] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [
        "pulling python",
        "pulling python: 20 of 40 MiB",
        "building the image: step 3/12",
        "building the image: Installing numpy (21.4 MB)",
    ]
    monkeypatch.setattr("mcp_agentrun.cli.progress.time", SimpleNamespace(monotonic=lambda: 0.0))
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "60")
        with Progress() as progress:
            for stage in stages:
                progress(stage)
        if stream.isatty():
            assert stream.getvalue().split("\r\x1b[K") == [
                "0:00 pulling python",
                "0:00 [##########..........] 20/40 MiB pulling python",
                "0:00 [#####...............] 3/12 building the image",
                "0:00 [#####...............] 3/12 building the image: Instal",
                "",
            ]
        else:
            assert stream.getvalue().splitlines() == stages
