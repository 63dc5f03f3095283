"""The prompt of ``mcp-agentrun shell``. Only this module needs prompt_toolkit and pygments."""

from __future__ import annotations

import ast
import codeop
import os
import shlex
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import DynamicLexer, PygmentsLexer
from prompt_toolkit.styles import DummyStyle, Style
from pygments.lexers.python import PythonLexer

from ..errors import AgentRunError
from ..sandbox import AsyncSandbox, Result
from ..settings import Settings
from ..spoofing import sanitize
from .outcomes import explain, explain_state
from .pictures import inline_picture, save_pictures
from .progress import showing_progress
from .streams import Stdout, interruptible
from .terminal import note

__all__ = ["Repl", "exit_code_of", "is_complete", "next_indent", "words_of"]

_HELP = """\
:install NAME...         install packages
:files                   list the files in the workspace
:save FILE [TARGET]      copy a file of the workspace to this machine
:reset                   forget variables, files and packages
:quit                    leave, as do exit() and Ctrl-D
Alt-Enter begins a new line; Ctrl-C interrupts code and commands."""

# Colours of the terminal's own palette, which its theme keeps readable on its background.
_STYLE = Style.from_dict(
    {
        "pygments.keyword": "ansigreen",
        "pygments.operator.word": "ansigreen",
        "pygments.literal.string": "ansiyellow",
        "pygments.literal.number": "ansicyan",
        "pygments.comment": "ansibrightblack",
    }
)

_compile = codeop.CommandCompiler()
_compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def is_complete(code: str) -> bool:
    """Return whether Enter runs *code*, because it is complete or invalid. A block ends with an empty line."""
    if code.startswith((":", "!", "%")) and "\n" not in code:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _compile(code, "<input>", "exec") is None:
                return False
            statements = ast.parse(code).body
    except (SyntaxError, ValueError, OverflowError):
        return True
    is_block = (
        bool(statements) and hasattr(statements[-1], "body") and statements[-1].lineno != statements[-1].end_lineno
    )
    return not is_block or not code.rpartition("\n")[2].strip()


def next_indent(code: str) -> str:
    """Return the indentation of the line after *code*."""
    last = code.rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip())]
    return indent + "    " if last.rstrip().endswith(":") else indent


def words_of(command: str) -> list[str]:
    """Split *command* at spaces that are not in quotes.

    :raises AgentRunError: a quotation mark is missing.
    """
    lexer = shlex.shlex(command, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.sep == "\\":
        lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        raise AgentRunError('a quotation mark is missing; names with spaces are quoted, as in "a b.txt"') from None


def exit_code_of(code: str, result: Result) -> int | None:
    """Return the exit code if *code* has left the interpreter, or None.

    The sandbox reports an exit with code 0 as success. A statement that exits then shows that it was one.
    """
    if result.error is not None:
        return result.exit_code if result.error.type == "SystemExit" else None
    try:
        statements = ast.parse(code).body if result.outcome == "ok" else []
    except (SyntaxError, ValueError, RecursionError):  # a magic command, for instance
        return None
    return 0 if any(map(_exits, statements)) else None


def _exits(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Call(ast.Name("exit" | "quit") | ast.Attribute(ast.Name("sys"), "exit"))):
            return True
        case ast.Raise(ast.Name("SystemExit") | ast.Call(ast.Name("SystemExit"))):
            return True
        case _:
            return False


class Repl:
    """Read code and commands from the terminal and run them in *sandbox*. The history is kept in memory only."""

    def __init__(self, sandbox: AsyncSandbox, settings: Settings) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self._last = b""
        self._commands: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            ":install": self._install,
            ":files": self._files,
            ":save": self._save,
            ":reset": self._reset,
            ":help": self._help,
        }
        self._session = self._make_session()

    def _make_session(self) -> PromptSession[str]:
        bindings = KeyBindings()

        def is_command() -> bool:
            return self._session.default_buffer.text.startswith(":")

        @bindings.add("enter", filter=Condition(lambda: self._session.default_buffer.complete_state is None))
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            document: Document = buffer.document
            if document.is_cursor_at_the_end and is_complete(document.text):
                buffer.validate_and_handle()
            else:
                buffer.insert_text("\n" + next_indent(document.current_line_before_cursor))

        @bindings.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("tab", filter=Condition(lambda: not is_command()))
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("    ")

        python = PygmentsLexer(PythonLexer)
        return PromptSession[str](
            multiline=True,
            key_bindings=bindings,
            lexer=DynamicLexer(lambda: None if is_command() else python),
            completer=WordCompleter([*self._commands, ":quit"], sentence=True),
            complete_while_typing=Condition(is_command),
            prompt_continuation="... ",
            style=DummyStyle() if os.environ.get("NO_COLOR") else _STYLE,
            include_default_pygments_style=False,
        )

    async def loop(self) -> int:
        """Read and run input until the user leaves. Return the exit code."""
        click.echo("Python in a sandbox. :help lists the commands, Ctrl-D leaves.")
        while True:
            try:
                text = await self._session.prompt_async(FormattedText([("bold", ">>> ")]))
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            try:
                if text.lstrip().startswith(":"):
                    name, *words = words_of(text)
                    if name == ":quit":
                        return 0
                    await _until_interrupted(self._commands.get(name, self._unknown)(words))
                elif text.strip():
                    code = await self._run(text)
                    if code is not None:
                        return code
            except AgentRunError as error:
                note(str(error))
            except OSError as error:
                note(f"{error.filename or 'that'} can't be written: {error.strerror}")

    async def _run(self, code: str) -> int | None:
        """Run *code*. Return the exit code if it has left the interpreter."""
        stdout = Stdout(self._sandbox.interrupt)
        self._last = b"\n"

        async def on_bytes(data: bytes) -> None:
            self._last = data[-1:]
            await stdout.write(data)

        if not await _until_interrupted(self._ready()):
            return None
        async with interruptible(self._sandbox.interrupt, exits=False):
            result = await self._sandbox.run(code, on_bytes=on_bytes, stream=True)
        await stdout.finish()
        if self._last != b"\n":
            click.echo()
        self._show_pictures(result)
        explain(result, self._settings, install=":install")
        explain_state(result)
        if result.installed is not None:
            note("installed " + " ".join(f"{name} {version}" for name, version in result.installed.packages))
        return exit_code_of(code, result)

    async def _ready(self) -> None:
        async with showing_progress(lambda: self._sandbox.stage):
            await self._sandbox.ready()

    def _show_pictures(self, result: Result) -> None:
        for picture in result.images:
            shown = inline_picture(picture, os.environ)
            if shown is not None:
                sys.stdout.write(f"{shown}\n")
                sys.stdout.flush()
                continue
            for path in save_pictures([picture], Path(), "plot"):
                note(f"saved {path} ({picture.width} x {picture.height})")

    async def _install(self, names: list[str]) -> None:
        if not names:
            note("name what to install, as in :install lightgbm")
            return
        async with showing_progress(lambda: self._sandbox.stage) as report:
            installed = await self._sandbox.install(*names, report=report)
        for name, version in (*installed.packages, *installed.satisfied):
            click.echo(f"{sanitize(name)} {sanitize(version)}")

    async def _files(self, _: list[str]) -> None:
        files = await self._sandbox.files.list()
        if not files:
            click.echo("The workspace is empty.")
        for file in files:
            click.echo(f"{file.size:>12,}  {file.modified.astimezone():%Y-%m-%d %H:%M}  {sanitize(file.path)}")

    async def _save(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            note("name a file of the workspace, and where to save it, as in :save plot.svg figures/")
            return
        data = await self._sandbox.files.read(words[0])
        path, exists = _target(Path(words[0]).name, *words[1:])
        if not exists or await _agreed(f"{path} exists. Replace it? [y/N] "):
            _save_as(data, path)

    async def _reset(self, _: list[str]) -> None:
        await self._sandbox.reset()
        click.echo("Variables, files and packages are gone.")

    async def _help(self, _: list[str]) -> None:
        click.echo(_HELP)

    async def _unknown(self, _: list[str]) -> None:
        note("there is no such command; :help lists those that there are")


async def _agreed(question: str) -> bool:
    """Ask *question*. Ctrl-C and Ctrl-D count as no, and do not leave the shell."""
    try:
        answer = await PromptSession[str]().prompt_async(question, handle_sigint=False)
    except (KeyboardInterrupt, EOFError):
        return False
    return answer.strip().lower() in ("y", "yes")


async def _until_interrupted(work: Awaitable[None]) -> bool:
    """Await *work*, which Ctrl-C cancels. Return whether it has ended by itself."""
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            scope.cancel()

        async with interruptible(cancel, exits=False):
            await work
    if scope.cancelled_caught:
        note("interrupted")
    return not scope.cancelled_caught


def _save_as(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    note(f"saved {path} ({len(data):,} bytes)")


def _target(name: str, target: str = ".") -> tuple[Path, bool]:
    """Return the file *target*, or *name* in the folder *target*, and whether it exists."""
    path = Path(os.path.expanduser(target))
    if path.is_dir():
        path /= name
    return path, path.exists()
