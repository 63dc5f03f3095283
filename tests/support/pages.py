"""The code blocks of the documentation, and a terminal that types what they show.

What a block is decides its language:

* ``console``: commands after ``$ ``, each with the output that it must have below it, where any is shown. ``...``
  stands for anything. Lines after ``>>> `` are typed into a program that asks for them.
* ``sh``, ``bash``: a script.
* ``python``: code that shares its names with the other code of the page.
* ``output``: what the block above it has printed.
* ``json``, ``toml``, ``yaml``: data, which are parsed.
* ``text`` and blocks without a language: nothing that runs.

A comment before a block changes that: ``<!-- not run: REASON -->``, or ``<!-- runs on -->`` for a program that runs
until the end of the page, once what the block shows has been printed. What a comment that begins with ``<!-- run``
holds, in lines of its own, is a script that readers don't see.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any, cast
from unittest import mock

from markdown_it import MarkdownIt

from tests.support import CHECKOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DATA", "PAGES", "SCRIPTS", "SILENT", "Block", "Command", "Runner", "blocks", "commands", "parse"]

SCRIPTS = frozenset(("console", "sh", "bash", "python"))
DATA = frozenset(("json", "toml", "yaml"))
SILENT = frozenset(("", "text", "output"))

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]

_COMMENT = re.compile(r"<!-- (not run: [^\n]+|runs on) -->\s*\Z")
_HIDDEN = re.compile(r"<!-- run\n(.*)-->\s*\Z", re.DOTALL)
_CONFIRM = r"\[[yY]/[nN]\]: "
_PYTHON = r">>> "
_PROGRESS = re.compile(r"^(looking for|starting|building|checking|waiting for) .*\n", re.MULTILINE)
"""What terminals that can move the cursor erase again."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """The line of the page that is the first of `code`."""
    language: str
    code: str
    comment: str
    """``not run: REASON``, ``runs on``, ``hidden`` from readers, or nothing."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block."""

    text: str
    typed: tuple[str, ...]
    """What is typed into it."""
    output: str
    """What it prints, or nothing if that is not shown."""


def blocks(page: Path) -> list[Block]:
    """The blocks of *page*, with what its comments hide."""
    found: list[Block] = []
    comment = ""
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        first = token.map[0] + 2 if token.map else 0
        if token.type == "fence":
            found.append(Block(page, first, token.info.strip(), token.content, comment))
            comment = ""
        elif token.type == "html_block":
            said, hidden = _COMMENT.match(token.content), _HIDDEN.match(token.content)
            comment = said[1] if said else comment
            if hidden:
                found.append(Block(page, first, "sh", hidden[1], "hidden"))
    return found


def commands(code: str) -> Iterator[Command]:
    """The commands of a ``console`` block."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1
        while length < len(lines) and re.match(r"> |>$", lines[length]):
            length += 1
        rest = lines[length:]
        yield Command(
            "\n".join(re.sub(r"^> ?", "", line) for line in lines[:length]),
            tuple(line.removeprefix(_PYTHON) for line in rest if line.startswith(_PYTHON)),
            "".join(f"{line}\n" for line in rest if not line.startswith(_PYTHON)),
        )


def parse(block: Block) -> None:
    """Parse the data of *block*.

    :raises ValueError: they are malformed.
    """
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)
    else:
        from ruamel.yaml import YAML

        cast("Any", YAML(typ="safe")).load(block.code)


class Runner:
    """Runs the blocks of a page in turn, in a folder and with a home folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        import pexpect

        self._port = str(port)
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._printed = ""
        self._folder = folder
        self._programs: list[subprocess.Popen[str]] = []
        home = folder.with_name("home")
        home.mkdir()
        (home / ".curlrc").write_text("fail-with-body\n")  # so that a request which is refused is noticed
        binaries = home / "bin"
        path = os.pathsep.join((str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]))
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("AGENTRUN_")}
        self._environ = {
            **kept,
            "HOME": str(home),
            "PATH": path,
            "TERM": "dumb",
            "NO_COLOR": "1",
            "PAGER": "cat",
            "PS1": "",
            "PS2": "",
            "AGENTRUN_PORT": self._port,
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
            "UV_TOOL_BIN_DIR": str(binaries),
        }
        self._bash = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile"],
            cwd=str(folder),
            env=cast("Any", self._environ),
            encoding="utf-8",
            echo=False,
        )
        self._bash.setwinsize(50, 250)
        self._bash.delaybeforesend = None
        self._type("set -o pipefail; bind 'set enable-bracketed-paste off' 2>/dev/null", ())

    def close(self) -> None:
        """End what still runs."""
        for program in self._programs:
            with program:
                program.terminate()
        try:
            self._type("kill $(jobs -p) 2>/dev/null || true; wait", ())
        finally:
            self._bash.close(force=True)

    def run(self, block: Block) -> None:
        """Run *block*, and compare what it prints with what the page shows.

        :raises AssertionError: it fails, or prints something else.
        """
        if block.language == "python":
            self._run_python(block)
        elif block.language == "output":
            assert _is_shown(block.code, self._printed), _difference(block.code, self._printed, block.where)
        elif block.language == "console":
            for command in commands(block.code):
                self._run_command(command, block)
        else:
            self._run_command(Command(block.code.rstrip("\n"), (), ""), block)

    def _run_python(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + block.code.replace("8000", self._port)
        code = compile(source, str(block.page), "exec")
        printed = io.StringIO()
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            with contextlib.redirect_stdout(printed), mock.patch.dict(os.environ, {"HOME": self._environ["HOME"]}):
                exec(code, self._names)
        finally:
            os.chdir(before)
        self._printed = printed.getvalue()

    def _run_command(self, command: Command, block: Block) -> None:
        text = command.text.replace("8000", self._port)
        output = command.output.replace("8000", self._port)
        if block.comment == "runs on":
            self._start(text, output, block.where)
            return
        code, printed = self._type(text, command.typed)
        printed = _PROGRESS.sub("", printed)
        self._printed = printed
        assert code == 0, f"{block.where}: exit code {code} of: {text}\n{printed}"
        if output:
            assert _is_shown(output, printed), _difference(output, printed, block.where)

    def _type(self, text: str, typed: tuple[str, ...]) -> tuple[int, str]:
        """Type a command, and answers to what it asks; return its exit code and what it has printed."""
        import termios

        end = f"ended-{len(text)}-"
        lines = list(typed)
        self._bash.sendline(f"failed=; trap 'failed=$?' ERR; {{ {text}\n}}; trap - ERR; echo '{end}'${{failed:-0}}")
        printed = ""
        while True:
            matched = self._bash.expect([rf"{end}(\d+)\r?\n", _CONFIRM, rf"(?m)^{_PYTHON}"], timeout=110)
            printed += cast("str", self._bash.before).replace("\r\n", "\n")
            if matched == 0:
                found = self._bash.match
                assert isinstance(found, re.Match)
                return int(found[1]), printed
            if matched == 1:
                self._bash.sendline("y")
                continue
            while termios.tcgetattr(self._bash.child_fd)[3] & termios.ICANON:
                time.sleep(0.01)  # what is typed before it reads single keys, it does not see
            if lines:
                self._bash.sendline(lines.pop(0))
            else:
                self._bash.sendeof()

    def _start(self, text: str, output: str, where: str) -> None:
        """Start a program that runs on, and wait until it has printed *output*."""
        program = subprocess.Popen(
            ["bash", "-c", f"exec {text}"],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._programs.append(program)
        assert program.stdout
        printed = ""
        for line in program.stdout:
            printed += line
            if _is_shown(output, printed):
                return
        raise AssertionError(_difference(output, printed, where))


def _is_shown(shown: str, printed: str) -> bool:
    return OutputChecker().check_output(shown, printed, ELLIPSIS | NORMALIZE_WHITESPACE)


def _difference(shown: str, printed: str, where: str) -> str:
    return f"{where}: shown is\n{shown}\nprinted was\n{printed}"
