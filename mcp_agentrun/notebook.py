"""Translate to Python what a notebook accepts beyond it: magics, ``!commands``, a fenced block, prompts.

Code that is Python is never changed. Other code is rewritten line by line, so that each line stays where it is. The
static check, here and in the sandbox, and the interpreter are given the same text. What can't be translated is a
`SyntaxError` that says what to write instead.
"""

from __future__ import annotations

import _ast as ast
import builtins
import io
import os
import re
import stat
from itertools import pairwise

__builtins__ = dict(vars(builtins))  # for the functions below: in the sandbox, user code can change the original ones

_HINT = r"(?m)^\s*(?:[%!?`~$]|>>>|In ?\[\d+\]:|(?:uv )?pip3? |[\w.]+\?)|=\s*[!%]"
_FENCE = r"\s*(```+|~~~+)\s*(?:\{?\.?(?:i?python[\d.]*|py[\d.]*|jupyter)\b[^`]*|(bash|sh|shell))?\s*$"
_ASSIGNMENT = r"(\s*)([\w.,\[\]'\" ()*]+?\s*=\s*)([!%].*)$"
_HELP = r"(\s*)\?{0,2}([A-Za-z_][\w.]*)\?{0,2}\s*$"
_MAGIC = r"%{1,2}\s*([A-Za-z_][\w.]*)\s*(.*)$"
_PIP = r"(?:sudo\s+)?(?:(?:\{sys\.executable\}|\S*python[\d.]*)\s+-m\s+|uv\s+)?pip[\d.]*(?:\s+(.*))?$"
_PROMPT = r"\s*(?:>>>|In ?\[\d+\]:)(?: |$)"
_TERMINAL = r"\s*(?:\$\s+(?=\w)|(?=(?:uv )?pip3? (?:install|list|show|freeze|uninstall)\b))"
_CONTINUATION = r"\s*(?:\.\.\.+:?)(?: |$)"
_FIELD = r"(?<![$\\])\{([^{}]+)\}"
# fmt: off
_VALUES = (
    "-i", "-f", "-c", "-t", "-p", "--index-url", "--extra-index-url", "--find-links", "--constraint", "--target",
    "--timeout", "--retries", "--proxy", "--trusted-host", "--progress-bar", "--python", "--prefix",
    "-r", "-e", "--editable",
)
# fmt: on
_CELL = "<cell>"
_LONGEST_FILE = 1 << 16  # bytes of a file of requirements that are read
_COMPILED = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

# fmt: off
_HARMLESS = frozenset((
    "alias", "alias_magic", "autoawait", "autocall", "autoindent", "automagic", "autoreload", "autosave",
    "colors", "config", "doctest_mode", "gui", "load_ext", "logoff", "logon", "logstart", "logstate",
    "logstop", "matplotlib", "notebook", "pdb", "pprint", "precision", "rehashx", "reload_ext",
    "unload_ext", "xmode", "pylab", "aimport", "nbagg", "watermark",
))
_COMMANDS = frozenset((
    "cat", "cp", "head", "less", "ll", "ls", "mkdir", "more", "mv", "rm", "rmdir", "tail", "touch", "wc",
))
# fmt: on
_HINTS = {
    **dict.fromkeys(("conda", "mamba", "micromamba"), 'call install_package("name")'),
    "who": "write print(dir())",
    "who_ls": "write dir()",
    "whos": "write print(dir())",
    "reset": "call reset_sandbox, or use del",
    "reset_selective": "use del",
    "load": "write print(open(path).read())",
    "store": "use pickle",
    "save": "write the code to a file with open(path, 'w')",
    **dict.fromkeys(("prun", "lprun"), "use cProfile.run(...)"),
    **dict.fromkeys(("memit", "mprun"), "use tracemalloc"),
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
    """A notebook cell translated to Python. See `translate`."""

    def __init__(self, code: str, folder: str | None = None) -> None:
        self.lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._commands = _Commands(folder)
        self.requirements = self._commands.requirements  # of ``pip install`` in it
        self._written = list(self.lines)
        self._moved: dict[int, int | None] = {}
        """By number of a rewritten line: how far its columns have moved; None if they have no counterpart."""
        self._indent = ""  # goes before each statement, if the magic of the cell makes it a block
        self._first = -1
        first = self._open_fence()
        self._strip_prompts(first)
        if first < len(self.lines) and self.lines[first].startswith("%%"):
            self._first = first
            self._rewrite_cell(first)
        self._rewrite_lines()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def restore_columns(self, tree: ast.AST) -> None:
        """Let the nodes of *tree* point at the original code."""
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
        """Blank the lines of a fence around the code; returns the index of the first line of code."""
        filled = [at for at, line in enumerate(self.lines) if line.strip()]
        if filled and (match := re.match(_FENCE, self.lines[filled[0]])):
            first = filled[0]
            self.lines[first] = "%%bash" if match[2] else ""
            if self.lines[filled[-1]].strip() == match[1]:
                self.lines[filled.pop()] = ""
            filled = filled[0 if match[2] else 1 :]
        return next((at for at in filled if not self.lines[at].lstrip().startswith("#")), len(self.lines))

    def _strip_prompts(self, first: int) -> None:
        """If line *first* has an interpreter's prompt, remove all prompts and what was printed between them."""
        if first == len(self.lines) or not re.match(_PROMPT, self.lines[first]):
            return
        is_input = False
        for at in range(first, len(self.lines)):
            match = re.match(_PROMPT, self.lines[at]) or (is_input and re.match(_CONTINUATION, self.lines[at])) or None
            is_input = match is not None
            self._replace(at, self.lines[at][match.end() :] if match else "", -match.end() if match else None)

    def _rewrite_cell(self, first: int) -> None:
        """Replace line *first*, the magic of the whole cell."""
        match = re.match(_MAGIC, self.lines[first])
        name, rest = (match[1], match[2].strip()) if match else ("", "")
        body = "\n".join(self.lines[first + 1 :])
        if name == "time":
            new = "get_ipython().begin_time()"
        elif name == "timeit":
            options, statement = _timeit_options(rest)
            if statement:
                raise self._located("put the setup of %%timeit into an earlier call", first)
            new, self._indent = f"for _timeit in get_ipython().loops({options!r}):", " "
            if not body.strip():
                new += " pass"
        elif name == "capture":
            new = f"get_ipython().begin_capture({rest!r})"
        elif name in ("python", "python3", "py", "pypy", "prun") or name in _HARMLESS:
            new = "pass"
        else:
            try:
                new = _foreign_cell(name, rest, body)
            except SyntaxError as error:
                raise self._located(error.msg, first) from None
            self.lines[first + 1 :] = [""] * (len(self.lines) - first - 1)
        self._replace(first, new, None)
        inner = next((at for at in range(first + 1, len(self.lines)) if self.lines[at].strip()), first)
        if not self._indent and self.lines[inner].startswith("%%"):
            self._first = inner
            self._rewrite_cell(inner)

    # -- line by line

    def _rewrite_lines(self) -> None:
        """Replace each line that begins a statement and is not Python, as the tokenizer reads it."""
        import tokenize

        ended, depth, at = 0, 0, -1
        refused: list[SyntaxError] = []  # not raised at once, since the tokenizer's own are ignored

        def read_line() -> str:
            nonlocal at
            at += 1
            if at >= len(self.lines):
                return ""
            if depth == 0 and ended == at > self._first:
                try:
                    self._rewrite(at)
                except SyntaxError as error:
                    refused.append(self._located(error.msg, at))
                    return ""
            return self.lines[at] + "\n"

        try:
            for token in tokenize.generate_tokens(read_line):
                if token.type == tokenize.OP:
                    depth += (token.string in "([{") - (token.string in ")]}")
                elif token.type in (tokenize.NEWLINE, tokenize.NL):
                    ended = token.start[0]
        except (SyntaxError, tokenize.TokenError):  # the compiler explains it better
            pass
        if refused:
            raise refused[0]

    def _rewrite(self, at: int) -> None:
        line = self.lines[at]
        indent = line[: len(line) - len(line.lstrip())]
        if line.lstrip().startswith(("%", "!")):
            self._replace(at, *self._special(at, indent, self._continued(at).strip()))
        elif match := re.match(_TERMINAL, line):
            self._replace(at, indent + self._commands.shell(self._continued(at)[match.end() :].strip()), None)
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
        """Line *at*, joined with those that it continues on by backslashes, which are blanked."""
        line = self.lines[at]
        while line.endswith("\\") and at + 1 < len(self.lines):
            at += 1
            line = line[:-1] + " " + self.lines[at].strip()
            self.lines[at] = ""
        return line

    def _special(self, at: int, indent: str, line: str) -> tuple[str, int | None]:
        """Translate *line*, which begins with ``!`` or ``%``; returns also how far the Python in it has moved.

        :raises SyntaxError: without a position: it can't be translated.
        """
        if line.startswith("!"):
            return indent + self._commands.shell(line.lstrip("!").strip()), None
        match = re.match(_MAGIC, line)
        if match is None:
            raise SyntaxError(_unavailable(line))
        name, rest = match[1], match[2].strip()
        if line.startswith("%%") and name not in _HARMLESS:
            if name != "time":
                raise SyntaxError(_unavailable("%%" + name, "write it on the first line"))
            return indent + "get_ipython().begin_time()", None
        if name == "time" and rest:
            if is_expression(rest):
                return self._around(at, indent, "get_ipython().time_since(get_ipython().clock(), (", rest, "))")
            if block := _repeated("get_ipython().once()", rest):
                return indent + block, None
            return self._around(at, indent, "with get_ipython().timing(): ", rest, "")
        if name == "timeit":
            options, rest = _timeit_options(rest)
            if block := _repeated(f"get_ipython().loops({options!r})", rest):
                return indent + block, None
            return self._around(at, indent, f"for _timeit in get_ipython().loops({options!r}): ", rest or "pass", "")
        return indent + self._commands.magic(name, rest), None

    def _around(self, at: int, indent: str, before: str, code: str, after: str) -> tuple[str, int | None]:
        new = indent + before
        written = self._written[at].find(code)
        return new + code + after, len(new) - written if written >= 0 else None

    def _located(self, message: str, at: int) -> SyntaxError:
        line = self._written[at]
        return SyntaxError(message, (_CELL, at + 1, 1, line + "\n", at + 1, len(line) + 1))


class _Commands:
    """Translates line magics and shell commands. A `SyntaxError` has no position yet."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self.requirements: list[str] = []  # of ``pip install`` among them

    def magic(self, name: str, rest: str) -> str:
        """Translate a line magic without Python in it."""
        if name == "config" and (match := re.match(r"\w+\.(ast_node_interactivity)\s*=\s*(.+)", rest)):
            return f"get_ipython().{match[1]} = {match[2]}"
        if name in _HARMLESS or (name == "time" and not rest):
            return "pass"
        if name in ("pip", "pip3", "uv"):
            return self.shell(f"{name} {rest}")
        if name in ("sx", "system", "sc"):
            return self.shell(rest)
        if name in _COMMANDS:
            return self.shell(f"{'ls -l' if name == 'll' else name} {rest}")
        if name == "cd":
            return f"__import__('os').chdir({rest.strip(chr(34) + chr(39)) or '/workspace'!r})"
        if name == "xdel" and rest.removeprefix("-n ").isidentifier():
            return f"del {rest.removeprefix('-n ')}"
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
        raise SyntaxError(_unavailable("%" + name, _HINTS.get(name)))

    def shell(self, command: str) -> str:
        """Translate a shell command to Python."""
        if (match := re.match(_PIP, command)) is None:
            return f"__import__('subprocess').run({_text(command)}, shell=True);"
        arguments, rest = _until_operator(match[1] or "")
        arguments = _with_files(arguments, self._folder)
        self.requirements += _requirements(arguments)
        new = f"get_ipython().pip({arguments!r});"
        return f"{new} {self.shell(rest)}" if rest else new


def _foreign_cell(name: str, rest: str, body: str) -> str:
    """Translate a cell of the magic *name* whose *body* is not Python.

    :raises SyntaxError: without a position: it can't be translated.
    """
    import shlex

    if name in ("bash", "sh", "script", "system", "sx", "!"):
        shell = "/bin/sh" if name == "sh" or rest == "sh" else "/bin/bash"
        if name == "script" and rest.split()[:1] not in (["bash"], ["sh"]):
            raise SyntaxError(f"run {rest or 'it'} with subprocess.run")
        return f"__import__('subprocess').run({body!r}, shell=True, executable={shell!r});"
    if name in ("writefile", "file") and rest:
        try:
            *options, path = shlex.split(rest)
        except ValueError as error:
            raise SyntaxError(f"%%{name}: malformed file name ({error})") from None
        mode, verb = ("a", "Appending to") if "-a" in options else ("w", "Writing")
        return f"print({f'{verb} {path}'!r}); open({path!r}, {mode!r}).write({body!r});"
    if name in _DOCUMENTS:
        body = f"<script>{body}</script>" if name in ("javascript", "js") else body
        return f"display({{{_DOCUMENTS[name]!r}: {body!r}}}, raw=True)"
    raise SyntaxError(_unavailable("%%" + name, _HINTS.get(name)))


def _unavailable(what: str, remedy: str | None = None) -> str:
    return f"{what} is not available here: {remedy or 'write it in Python'}"


def translate(code: str, folder: str | None = None) -> Cell | None:
    """Translate *code*, which is not Python; None if it does not look like a notebook's.

    :param folder: folder of the files of ``pip install -r``, if they are to be read.
    :raises SyntaxError: something in it can't be translated.
    """
    return Cell(code, folder) if re.search(_HINT, code) else None


def as_python(code: str, folder: str | None = None) -> tuple[str, list[str]]:
    """*code* as Python, and the requirements of ``pip install`` in it. What can't be translated is returned as it is.

    :param folder: as in `translate`.
    """
    if not re.search(_HINT, code):
        return code, _called_pip(code, folder)
    try:
        compile(code, _CELL, "exec", _COMPILED, dont_inherit=True)
    except SyntaxError:
        try:
            cell = Cell(code, folder)
        except SyntaxError:
            return code, []
        return cell.text, cell.requirements
    except (ValueError, MemoryError, RecursionError):
        pass
    return code, _called_pip(code, folder)


def _called_pip(code: str, folder: str | None) -> list[str]:
    """The requirements of ``get_ipython().system('pip install ...')``, which exported notebooks contain."""
    if "get_ipython" not in code or "pip" not in code:
        return []
    calls = re.findall(
        r"get_ipython\(\)\.(?:system|run_line_magic)\((['\"])(?:pip\1,\s*(['\"]))?(.*?)(?:\1|\2)\)", code
    )
    found: list[str] = []
    for _, is_magic, line in calls:
        match = re.match(_PIP, f"pip {line}" if is_magic else line)
        arguments = _until_operator((match[1] if match else "") or "")[0]
        found += _requirements(_with_files(arguments, folder))
    return found


def _until_operator(command: str) -> tuple[list[str], str]:
    """The words of a command, and the command that follows it, if any."""
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
    except ValueError:  # an unclosed quotation mark
        pass
    return words, ""


def _requirements(arguments: list[str]) -> list[str]:
    """The requirements among *arguments* of pip, if its command is ``install``."""
    if arguments[:1] != ["install"]:
        return []
    return [word for before, word in pairwise(arguments) if not word.startswith("-") and before not in _VALUES]


def _with_files(arguments: list[str], folder: str | None) -> list[str]:
    """*arguments* of pip, with the files that ``-r`` names replaced by their requirements, if they can be read."""
    if arguments[:1] != ["install"] or folder is None:
        return arguments
    found: list[str] = []
    words = iter(arguments)
    for word in words:
        match = re.match(r"(-r|--requirement)(?:=?(.+))?$", word)
        path = (match[2] or next(words, "")) if match else ""
        listed = _listed(folder, path) if match else [word]
        found += ["-r", path] if listed is None else listed
    return found


def _listed(folder: str, path: str) -> list[str] | None:
    """The requirements in the file at *path* in *folder*; None if it can't be read."""
    try:
        descriptor = os.open(os.path.join(folder, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        # A file that a link leads to elsewhere must not be sent to an index.
        within = os.readlink(f"/proc/self/fd/{descriptor}").startswith(folder + "/")
        if not within or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        text = os.read(descriptor, _LONGEST_FILE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    stripped = (re.sub(r"(?:^|\s)(?:#|--hash=).*", "", line).strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("-")]


def _timeit_options(rest: str) -> tuple[str, str]:
    """The options at the start of *rest*, and what follows."""
    match = re.match(r"((?:-[nrp]\s*\d+\s*|-[qotc]+\s+)*)(.*)$", rest + " ", re.DOTALL)
    return (match[1].strip(), match[2].strip()) if match else ("", rest)


def _repeated(turns: str, code: str) -> str:
    """Return *code*, a ``for`` statement, so that it loops once for each of *turns*; empty if it is not one.

    No compound statement can follow another on the same line.

    :raises SyntaxError: without a position: it is another compound statement.
    """
    word = code.partition(" ")[0].rstrip(":")
    if word in ("if", "while", "with", "try", "def", "class", "async", "match"):
        raise SyntaxError(f"write {word} ... on the lines below %%time or %%timeit")
    if word != "for":
        return ""
    try:
        loop = compile(code, _CELL, "exec", _COMPILED, dont_inherit=True).body[0]
    except (SyntaxError, ValueError):
        return ""  # the compiler says it better
    written = code.encode()
    begin = written.index(b" in", loop.target.end_col_offset) + len(b" in")
    end = written.index(b":", loop.iter.end_col_offset)
    turned = f" (_each for _timeit in {turns} for _each in ({written[begin:end].decode()}))"
    return written[:begin].decode() + turned + written[end:].decode()


def is_expression(code: str) -> bool:
    """Whether *code* is an expression, which may contain ``await``."""
    try:
        compile(code, _CELL, "eval", _COMPILED, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _text(command: str) -> str:
    """An expression for *command*, with ``{expressions}`` and ``$names`` of Python's replaced by their values.

    A field whose evaluation fails stays as it is, because it may be meant for the shell.
    """
    parts: list[str] = []
    at = 0
    for match in re.finditer(_FIELD + r"|\$([A-Za-z_]\w*)", command):
        value = f"({match[1]})" if match[1] else f"globals().get({match[2]!r}, {match[0]!r})"
        if match[1] and not (is_expression(value) and "," not in match[1].split("(")[0]):
            continue
        parts += [
            repr(command[at : match.start()]),
            f"str({value})" if match[2] else f"get_ipython().field(lambda: {value}, {match[0]!r})",
        ]
        at = match.end()
    return " + ".join([part for part in [*parts, repr(command[at:])] if part != "''"]) or "''"
