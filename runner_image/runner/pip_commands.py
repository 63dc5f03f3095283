"""Reading ``pip`` commands in the code of notebooks."""

from __future__ import annotations

import builtins
import io

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

PATTERN = r"(?:sudo\s+)?(?:(?:\{sys\.executable\}|\S*python[\d.]*)\s+-m\s+|uv\s+)?pip[\d.]*(?:\s+(.*))?$"
"""Matches a shell command that calls pip; its group has the arguments."""

# fmt: off
_WITH_VALUE = (
    "-i", "-f", "-c", "-t", "-p", "--index-url", "--extra-index-url", "--find-links", "--constraint", "--target",
    "--timeout", "--retries", "--proxy", "--trusted-host", "--progress-bar", "--python", "--prefix",
)
# fmt: on


def called(code: str) -> list[str]:
    """The requirements in calls such as ``get_ipython().system('pip install ...')``, which exported notebooks have."""
    import re

    if "get_ipython" not in code or "pip" not in code:
        return []
    calls = re.findall(
        r"get_ipython\(\)\.(?:system|run_line_magic)\((['\"])(?:pip\1,\s*(['\"]))?(.*?)(?:\1|\2)\)", code
    )
    found: list[str] = []
    for _, is_magic, line in calls:
        match = re.match(PATTERN, f"pip {line}" if is_magic else line)
        arguments = split((match[1] if match else "") or "")[0]
        if arguments[:1] == ["install"]:
            found += requirements(arguments[1:]) or []
    return found


def split(command: str) -> tuple[list[str], str]:
    """The words of a shell command up to an operator, and the command that follows it, if any."""
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
    except ValueError:  # an unmatched quotation mark
        pass
    return words, ""


def requirements(arguments: list[str]) -> list[str] | None:
    """The requirements among *arguments* of ``pip install``; None where they are in a file."""
    found: list[str] = []
    skip = False
    for word in arguments:
        if word in ("-r", "--requirement", "-e", "--editable") or word.startswith(("-r", "--requirement=")):
            return None
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = word in _WITH_VALUE
    return found
