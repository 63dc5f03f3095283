"""What a notebook accepts beyond Python: magics, ``!commands``, a fenced block; and what ``get_ipython()`` returns.

Code that is Python is never changed. Other code is rewritten line by line, so that each line stays where it is, and the
static check and the interpreter are given the same text. What has no counterpart is a `SyntaxError` that says what to
write.
"""

from __future__ import annotations

import _ast as ast
import builtins
import io
import os
import sys
import time

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .display import Items

_HINT = r"(?m)^\s*(?:[%!?`~]|[\w.]+\?)|=\s*[!%]"
_FENCE = r"\s*(```+|~~~+)\s*(?:\{?\.?(?:i?python[\d.]*|py[\d.]*|jupyter)\b[^`]*|(bash|sh|shell))?\s*$"
_ASSIGNMENT = r"(\s*)([\w.,\[\]'\" ()*]+?\s*=\s*)([!%].*)$"
_HELP = r"(\s*)\?{0,2}([A-Za-z_][\w.]*)\?{0,2}\s*$"
_MAGIC = r"%{1,2}\s*([A-Za-z_][\w.]*)\s*(.*)$"
_PIP = r"(?:sudo\s+)?(?:(?:\{sys\.executable\}|\S*python[\d.]*)\s+-m\s+|uv\s+)?pip[\d.]*(?:\s+(.*))?$"
_FIELD = r"(?<![$\\])\{([^{}]+)\}"
# fmt: off
_VALUES = (
    "-i", "-f", "-c", "-t", "-p", "--index-url", "--extra-index-url", "--find-links", "--constraint", "--target",
    "--timeout", "--retries", "--proxy", "--trusted-host", "--progress-bar", "--python", "--prefix",
)
# fmt: on
_CELL = "<cell>"
_COMPILED = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

# fmt: off
_HARMLESS = frozenset((
    "alias", "alias_magic", "autoawait", "autocall", "autoindent", "automagic", "autoreload", "autosave",
    "colors", "config", "doctest_mode", "gui", "load_ext", "logoff", "logon", "logstart", "logstate",
    "logstop", "matplotlib", "notebook", "pdb", "pprint", "precision", "rehashx", "reload_ext",
    "unload_ext", "xmode", "pylab", "aimport", "nbagg", "watermark",
))
# fmt: on
# fmt: off
_COMMANDS = frozenset((
    "cat", "cp", "head", "less", "ll", "ls", "mkdir", "more", "mv", "rm", "rmdir", "tail", "touch", "wc",
))
# fmt: on
_HINTS = {
    "conda": 'call install_package("name")',
    "mamba": 'call install_package("name")',
    "micromamba": 'call install_package("name")',
    "who": "write print(dir())",
    "who_ls": "write dir()",
    "whos": "write print(dir())",
    "reset": "call reset_sandbox, or use del",
    "reset_selective": "use del",
    "load": "write print(open(path).read())",
    "store": "use pickle",
    "save": "write the code to a file with open(path, 'w')",
    "prun": "use cProfile.run(...)",
    "lprun": "use cProfile.run(...)",
    "memit": "use tracemalloc",
    "mprun": "use tracemalloc",
    "debug": "print the values that you want to see; nobody can answer a debugger",
    "sql": "use sqlite3",
    "cython": "use numpy or numba",
}
_DOCUMENTS = {
    **dict.fromkeys(("html", "HTML", "javascript", "js"), "text/html"),
    **dict.fromkeys(("svg", "SVG"), "image/svg+xml"),
    "markdown": "text/markdown",
    "latex": "text/latex",
}


class Cell:
    """Code of a notebook as Python: see `translate`."""

    def __init__(self, code: str) -> None:
        self.lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self.requirements: list[str] = []
        """What ``pip install`` in it asks for."""
        self._written = list(self.lines)
        self._moved: dict[int, int | None] = {}
        """By number of a rewritten line: how far its columns lie behind those that were written; None if none does."""
        self._indent = ""
        """What goes before each statement, where the magic of the cell makes it a block."""
        self._first = -1
        first = self._open_fence()
        if first < len(self.lines) and self.lines[first].startswith("%%"):
            self._first = first
            self._rewrite_cell(first)
        self._rewrite_lines()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def restore_columns(self, tree: ast.AST) -> None:
        """Let the nodes of *tree* point at what was written."""
        import ast as whole

        for node in whole.walk(tree):  # pyright: ignore[reportArgumentType]
            for line, column in (("lineno", "col_offset"), ("end_lineno", "end_col_offset")):
                number: int = getattr(node, line, 0)
                if number in self._moved:
                    length = len(self._written[number - 1].encode())
                    moved = self._moved[number]
                    at = 0 if column == "col_offset" else length
                    if moved is not None:
                        at = min(max(0, getattr(node, column) - moved), length)
                    setattr(node, column, at)

    # -- the cell as a whole

    def _open_fence(self) -> int:
        """Blank the lines of a fence around the code; returns the index of the first line that says something."""
        import re

        filled = [at for at, line in enumerate(self.lines) if line.strip()]
        if filled and (match := re.match(_FENCE, self.lines[filled[0]])):
            first = filled[0]
            self.lines[first] = "%%bash" if match[2] else ""
            if self.lines[filled[-1]].strip() == match[1]:
                self.lines[filled.pop()] = ""
            filled = filled[0 if match[2] else 1 :]
        return next((at for at in filled if not self.lines[at].lstrip().startswith("#")), len(self.lines))

    def _rewrite_cell(self, first: int) -> None:
        """Replace the magic of the whole cell that line *first* is."""
        import re

        match = re.match(_MAGIC, self.lines[first])
        name, rest = (match[1], match[2].strip()) if match else ("", "")
        body = "\n".join(self.lines[first + 1 :])
        if name == "time":
            new = "get_ipython().begin_time()"
        elif name == "timeit":
            options, statement = _timeit_options(rest)
            if statement:
                raise self._refusal(first, "put the setup of %%timeit into an earlier call")
            new, self._indent = f"for _timeit in get_ipython().loops({options!r}):", " "
            if not body.strip():
                new += " pass"
        elif name == "capture":
            new = f"get_ipython().begin_capture({rest!r})"
        elif name in ("python", "python3", "py", "pypy", "prun") or name in _HARMLESS:
            new = "pass"
        else:
            new = self._foreign(first, name, rest, body)
            self.lines[first + 1 :] = [""] * (len(self.lines) - first - 1)
        self._replace(first, new, None)
        inner = next((at for at in range(first + 1, len(self.lines)) if self.lines[at].strip()), first)
        if not self._indent and self.lines[inner].startswith("%%"):
            self._first = inner
            self._rewrite_cell(inner)

    def _foreign(self, first: int, name: str, rest: str, body: str) -> str:
        """A statement for a cell whose *body* is no Python."""
        import shlex

        if name in ("bash", "sh", "script", "system", "sx", "!"):
            shell = "/bin/sh" if name == "sh" or rest == "sh" else "/bin/bash"
            if name == "script" and rest.split()[:1] not in (["bash"], ["sh"]):
                raise self._refusal(first, f"run {rest or 'it'} with subprocess.run")
            return f"__import__('subprocess').run({body!r}, shell=True, executable={shell!r});"
        if name in ("writefile", "file") and rest:
            *options, path = shlex.split(rest)
            mode, verb = ("a", "Appending to") if "-a" in options else ("w", "Writing")
            return f"print({f'{verb} {path}'!r}); open({path!r}, {mode!r}).write({body!r});"
        if name in _DOCUMENTS:
            body = f"<script>{body}</script>" if name in ("javascript", "js") else body
            return f"display({{{_DOCUMENTS[name]!r}: {body!r}}}, raw=True)"
        raise self._refusal(first, _HINTS.get(name, "write it in Python"), "%%" + name)

    # -- line by line

    def _rewrite_lines(self) -> None:
        """Replace each line that begins a statement and is none of Python's, as its tokenizer comes to it."""
        import tokenize

        ended, depth, at = 0, 0, -1
        refused: list[SyntaxError] = []  # which the tokenizer would take for its own

        def read_line() -> str:
            nonlocal at
            at += 1
            if at >= len(self.lines):
                return ""
            if depth == 0 and ended == at > self._first:
                try:
                    self._rewrite(at)
                except SyntaxError as error:
                    refused.append(error)
                    return ""
            return self.lines[at] + "\n"

        try:
            for token in tokenize.generate_tokens(read_line):
                if token.type == tokenize.OP:
                    depth += (token.string in "([{") - (token.string in ")]}")
                elif token.type in (tokenize.NEWLINE, tokenize.NL):
                    ended = token.start[0]
        except (SyntaxError, tokenize.TokenError):  # the compiler says it better
            pass
        if refused:
            raise refused[0]

    def _rewrite(self, at: int) -> None:
        import re

        line = self.lines[at]
        indent = line[: len(line) - len(line.lstrip())]
        if line.lstrip().startswith(("%", "!")):
            self._replace(at, *self._special(at, indent, self._continued(at).strip()))
        elif "?" in line and (match := re.match(_HELP, line)):
            self._replace(at, f"{match[1]}help({match[2]})", None)
        elif match := re.match(_ASSIGNMENT, line):
            head = match[1] + match[2]
            special = self._continued(at)[len(head) :].strip()
            if special.startswith("!"):
                command = _text(special.lstrip("!").strip())
                self._replace(at, f"{head}__import__('subprocess').getoutput({command}).splitlines()", 0)
            else:
                new, moved = self._special(at, "", special)
                self._replace(at, head + new.removesuffix(";"), None if moved is None else moved + len(head))
        elif self._indent and line.strip():
            self._replace(at, line, 0)

    def _replace(self, at: int, new: str, moved: int | None) -> None:
        indent = self._indent if at != self._first else ""
        self.lines[at] = indent + new
        self._moved[at + 1] = None if moved is None else moved + len(indent)

    def _continued(self, at: int) -> str:
        """Line *at* and those that a backslash at its end joins to it, which are blanked."""
        line = self.lines[at]
        while line.endswith("\\") and at + 1 < len(self.lines):
            at += 1
            line = line[:-1] + " " + self.lines[at].strip()
            self.lines[at] = ""
        return line

    def _special(self, at: int, indent: str, line: str) -> tuple[str, int | None]:
        """Python for *line*, which begins with ``!`` or ``%``, and how far what is Python in it has moved."""
        import re

        if line.startswith("!"):
            return indent + self._command(at, line.lstrip("!").strip()), None
        match = re.match(_MAGIC, line)
        if match is None:
            raise self._refusal(at, "write it in Python", line)
        name, rest = match[1], match[2].strip()
        if line.startswith("%%") and name not in _HARMLESS:
            if name != "time":
                raise self._refusal(at, "write it on the first line", "%%" + name)
            return indent + "get_ipython().begin_time()", None
        if name == "time" and rest:
            before, after = "with get_ipython().timing(): ", ""
            if _is_expression(rest):
                before, after = "get_ipython().time_since(get_ipython().clock(), (", "))"
            return self._around(at, indent, before, rest, after)
        if name == "timeit":
            options, rest = _timeit_options(rest)
            return self._around(at, indent, f"for _timeit in get_ipython().loops({options!r}): ", rest or "pass", "")
        return indent + self._simple(at, name, rest), None

    def _around(self, at: int, indent: str, before: str, code: str, after: str) -> tuple[str, int | None]:
        new = indent + before
        written = self._written[at].find(code)
        return new + code + after, len(new) - written if written >= 0 else None

    def _simple(self, at: int, name: str, rest: str) -> str:
        """Python for a magic that has none in it."""
        if name in _HARMLESS or (name == "time" and not rest):
            return "pass"
        if name in ("pip", "pip3", "uv"):
            return self._command(at, f"{name} {rest}")
        if name in ("sx", "system", "sc"):
            return self._command(at, rest)
        if name in _COMMANDS:
            return self._command(at, f"{'ls -l' if name == 'll' else name} {rest}")
        if name == "cd":
            return f"__import__('os').chdir({rest.strip(chr(34) + chr(39)) or '/workspace'!r})"
        if name == "pwd":
            return "__import__('os').getcwd()"
        if name in ("env", "set_env"):
            variable, sign, value = rest.partition("=") if "=" in rest else rest.partition(" ")
            if not variable:
                return "dict(__import__('os').environ)"
            place = f"__import__('os').environ[{variable.strip()!r}]"
            return f"{place} = {_text(value.strip())}" if sign else place
        if name == "run" and rest:
            path, *arguments = rest.split()
            return f"get_ipython().run_file({path!r}, {arguments!r})"
        raise self._refusal(at, _HINTS.get(name, "write it in Python"), "%" + name)

    def _command(self, at: int, command: str) -> str:
        """Python for a command of the shell."""
        import re

        if (match := re.match(_PIP, command)) is None:
            return f"__import__('subprocess').run({_text(command)}, shell=True);"
        arguments, rest = _until_operator(match[1] or "")
        if arguments[:1] == ["install"]:
            requirements = _requirements(arguments[1:])
            if requirements is None:
                raise self._refusal(at, 'name the packages, as in install_package("name")', "pip install -r")
            self.requirements += requirements
        new = f"get_ipython().pip({arguments!r});"
        return f"{new} {self._command(at, rest)}" if rest else new

    def _refusal(self, at: int, remedy: str, what: str = "") -> SyntaxError:
        text = f"{what} is not available here: {remedy}" if what else remedy
        line = self._written[at]
        return SyntaxError(text, (_CELL, at + 1, 1, line + "\n", at + 1, len(line) + 1))


def translate(code: str) -> Cell | None:
    """*code*, which is not Python, as that of a notebook; None if there is nothing of a notebook in it.

    :raises SyntaxError: there is something in it that has no counterpart.
    """
    import re

    return Cell(code) if re.search(_HINT, code) else None


def as_python(code: str) -> tuple[str, list[str]]:
    """*code* as Python, for whoever judges it, and the requirements that ``pip install`` in it asks for.

    What can't be translated is returned as it is.
    """
    import re

    if not re.search(_HINT, code):
        return code, _called_pip(code)
    try:
        compile(code, _CELL, "exec", _COMPILED, dont_inherit=True)
    except SyntaxError:
        try:
            cell = Cell(code)
        except SyntaxError:
            return code, []
        return cell.text, cell.requirements
    except (ValueError, MemoryError, RecursionError):
        pass
    return code, _called_pip(code)


def _called_pip(code: str) -> list[str]:
    """What ``get_ipython().system('pip install ...')`` asks for, as notebooks that were exported have it."""
    import re

    if "get_ipython" not in code or "pip" not in code:
        return []
    calls = re.findall(
        r"get_ipython\(\)\.(?:system|run_line_magic)\((['\"])(?:pip\1,\s*(['\"]))?(.*?)(?:\1|\2)\)", code
    )
    found: list[str] = []
    for _, is_magic, line in calls:
        match = re.match(_PIP, f"pip {line}" if is_magic else line)
        arguments = _until_operator((match[1] if match else "") or "")[0]
        if arguments[:1] == ["install"]:
            found += _requirements(arguments[1:]) or []
    return found


def _until_operator(command: str) -> tuple[list[str], str]:
    """The words of a command, and the command that follows it, if one does."""
    import re
    import shlex

    stream = io.StringIO(command)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if re.match(r"(?:[12&]?>|[|<&;])", word):
                return words, stream.read().strip() if word in ("&&", ";") else ""
            words.append(word.removesuffix(";"))
            if word.endswith(";"):
                return words, stream.read().strip()
    except ValueError:  # a quotation mark that stands alone
        pass
    return words, ""


def _requirements(arguments: list[str]) -> list[str] | None:
    """The requirements among *arguments* of ``pip install``; None where they are in a file."""
    found: list[str] = []
    skip = False
    for word in arguments:
        if word in ("-r", "--requirement", "-e", "--editable") or word.startswith(("-r", "--requirement=")):
            return None
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = word in _VALUES
    return found


def _timeit_options(rest: str) -> tuple[str, str]:
    """The options at the start of *rest*, and what follows."""
    import re

    match = re.match(r"((?:-[nrp]\s*\d+\s*|-[qotc]+\s+)*)(.*)$", rest + " ", re.DOTALL)
    return (match[1].strip(), match[2].strip()) if match else ("", rest)


def _is_expression(code: str) -> bool:
    try:
        compile(code, _CELL, "eval", _COMPILED, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _text(command: str) -> str:
    """A literal for *command*, in which ``{expressions}`` and ``$names`` of Python's are to be replaced."""
    import re

    parts: list[str] = []
    at = 0
    for match in re.finditer(_FIELD + r"|\$([A-Za-z_]\w*)", command):
        value = f"({match[1]})" if match[1] else f"globals().get({match[2]!r}, {match[0]!r})"
        if match[1] and not (_is_expression(value) and "," not in match[1].split("(")[0]):
            continue
        parts += [repr(command[at : match.start()]), f"str({value})"]
        at = match.end()
    return " + ".join([part for part in [*parts, repr(command[at:])] if part != "''"]) or "''"


def changes(items: Items, shell: Shell) -> dict[str, Any]:
    """By name of a module of IPython's, or of what stands for it in the image, what is to be changed in it."""

    def functions(module: Any) -> None:
        module.display, module.publish_display_data = items.display, items.publish
        module.clear_output, module.update_display = shell.clear_output, items.display

    def getipython(module: Any) -> None:
        module.get_ipython = shell.get_ipython

    return {"IPython.core.display_functions": functions, "IPython.core.getipython": getipython}


def forget_stand_in(is_installed: bool) -> None:
    """Let IPython itself be imported, where it *is_installed* now and was not when it was imported."""
    path = getattr(sys.modules.get("IPython"), "__file__", None)
    if is_installed and isinstance(path, str) and path.startswith(sys.prefix):
        for name in [name for name in sys.modules if name.partition(".")[0] == "IPython"]:
            del sys.modules[name]


class Shell:
    """What ``get_ipython()`` returns: as much of IPython's as code uses outside of a notebook's own machinery."""

    def __init__(self, items: Items, namespace: dict[str, Any]) -> None:
        self.user_ns = self.user_global_ns = namespace
        self.config = _Config()
        self.display_pub = self.events = self.display_formatter = self
        self.formatters: dict[str, Any] = _Registry()
        self.publish = items.publish
        self._timed: tuple[float, float, float] | None = None
        self._captured: tuple[str, Any, Any, io.StringIO, io.StringIO] | None = None

    def get_ipython(self) -> Shell:
        return self

    def register(self, *_: Any, **__: Any) -> None:
        """Accept a callback for an event of IPython's, none of which happens here."""

    unregister = clear_output = set_parent = enable_gui = enable_matplotlib = register

    # -- magics and commands

    def _run(self, cell: Cell) -> Any:
        code = cell.text.strip().removesuffix(";")
        if _is_expression(code):
            return eval(code, self.user_ns)
        exec(code, self.user_ns)
        return None

    def run_line_magic(self, magic_name: str, line: str = "", *_: Any, **__: Any) -> Any:
        return self._run(Cell(f"%{magic_name} {line}"))

    def magic(self, line: str) -> Any:
        return self._run(Cell("%" + line))

    def run_cell_magic(self, magic_name: str, line: str, cell: str) -> Any:
        return self._run(Cell(f"%%{magic_name} {line}\n{cell}"))

    def system(self, command: str) -> None:
        self._run(Cell("!" + command))

    def getoutput(self, command: str, *_: Any, **__: Any) -> list[str]:
        import subprocess

        return subprocess.getoutput(command).splitlines()

    def run_cell(self, raw_cell: str, *_: Any, **__: Any) -> Any:
        return self._run(Cell(raw_cell))

    ex = ev = run_cell

    def run_file(self, path: str, arguments: list[str]) -> None:
        """Execute a file as a script, and keep what it defines."""
        import runpy

        before = sys.argv
        sys.argv = [path, *arguments]
        try:
            found = runpy.run_path(path, run_name="__main__")
        finally:
            sys.argv = before
        self.user_ns.update({name: value for name, value in found.items() if not name.startswith("__")})

    def pip(self, arguments: list[str]) -> None:
        """What there is of ``pip``: installing was done before the code was run."""
        from importlib import metadata

        command = arguments[0] if arguments else ""
        if command in ("list", "freeze"):
            found = {str(each.name): str(each.version) for each in metadata.distributions()}
            for name, version in sorted(found.items()):
                print(f"{name}=={version}")  # noqa: T201
        elif command == "show":
            for name in arguments[1:]:
                print(f"Name: {name}\nVersion: {metadata.version(name)}")  # noqa: T201
        elif command != "install":
            print(f"pip {command} is not available here; packages come in with install_package")  # noqa: T201

    # -- time

    def clock(self) -> tuple[float, float, float]:
        spent = os.times()
        return time.perf_counter(), spent.user + spent.children_user, spent.system + spent.children_system

    def begin_time(self) -> None:
        self._timed = self.clock()

    def time_since(self, began: tuple[float, float, float], value: Any = None) -> Any:
        """Print the time from *began*; returns *value*."""
        wall, user, system = (now - then for now, then in zip(self.clock(), began, strict=True))
        print(f"CPU times: user {_span(user)}, sys: {_span(system)}, total: {_span(user + system)}")  # noqa: T201
        print(f"Wall time: {_span(wall)}")  # noqa: T201
        return value

    def timing(self) -> _Timing:
        return _Timing(self)

    def loops(self, options: str) -> Generator[int]:
        """Numbers for a loop whose body is to be measured, as ``%timeit`` does it."""
        import re

        given = dict(re.findall(r"-([nr])\s*(\d+)", options))
        number, repeat = int(given.get("n", 0)), int(given.get("r", 7))
        if not number:
            number, took = 1, 0.0
            while took < _LEAST_SECONDS and number < 10**8:
                began = time.perf_counter()
                yield from range(number)
                took = time.perf_counter() - began
                number *= 10 if took < _LEAST_SECONDS else 1
        runs: list[float] = []
        first = time.perf_counter()
        while len(runs) < repeat and (not runs or time.perf_counter() - first < _MOST_SECONDS):
            began = time.perf_counter()
            yield from range(number)
            runs.append((time.perf_counter() - began) / number)
        self.user_ns.pop("_timeit", None)
        mean = sum(runs) / len(runs)
        deviation = (sum((run - mean) ** 2 for run in runs) / len(runs)) ** 0.5
        times = f"{len(runs)} run{'s' * (len(runs) != 1)}, {number:,} loop{'s' * (number != 1)} each"
        print(f"{_span(mean)} ± {_span(deviation)} per loop (mean ± std. dev. of {times})")  # noqa: T201

    # -- cells

    def begin_capture(self, options: str) -> None:
        names = [word for word in options.split() if not word.startswith("-")]
        out, err = io.StringIO(), io.StringIO()
        self._captured = (names[0] if names else "", sys.stdout, sys.stderr, out, err)
        sys.stdout, sys.stderr = out, err

    def end_cell(self) -> None:
        """End what the magic of the cell has begun."""
        if self._captured is not None:
            name, sys.stdout, sys.stderr, out, err = self._captured
            self._captured = None
            if name:
                self.user_ns[name] = Captured(out.getvalue(), err.getvalue())
        if self._timed is not None:
            began, self._timed = self._timed, None
            self.time_since(began)


class Captured:
    """What a cell under ``%%capture`` has written."""

    def __init__(self, stdout: str, stderr: str) -> None:
        self.stdout = stdout
        self.stderr = stderr

    def show(self) -> None:
        sys.stdout.write(self.stdout)
        sys.stderr.write(self.stderr)

    __call__ = show

    def __str__(self) -> str:
        return self.stdout


class _Timing:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def __enter__(self) -> None:
        self._began = self._shell.clock()

    def __exit__(self, *_: Any) -> None:
        self._shell.time_since(self._began)


class _Config(dict[str, object]):
    """Settings of IPython's, of which there are none."""

    def __getattr__(self, _: str) -> _Config:
        return _Config()


class _Registry(dict[str, "_Registry"]):
    """Formatters that libraries register: accepted, and not used."""

    def __missing__(self, _: str) -> _Registry:
        return self

    def for_type(self, *_: Any, **__: Any) -> None:
        """Accept a formatter."""

    for_type_by_name = for_type


_LEAST_SECONDS, _MOST_SECONDS = 0.05, 10.0


def _span(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "μs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
