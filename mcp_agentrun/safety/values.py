"""Abstract values of expressions: names, literal strings, paths and numbers. Pure: no code is executed."""

from __future__ import annotations

import math
import operator
import posixpath
import re
from collections.abc import Iterator
from typing import Any, TypeVar

HOLE = "\ufffc"
"""Placeholder for an unknown part of a string."""

LONGEST, LONGEST_NAME = 1 << 12, 256
"""Maximum number of characters of a string and of a name that are tracked."""


class Name(str):
    """A dotted name, with ``()`` for the result of a call, ``[key]`` for an item, and ``?`` for an unknown object."""


class Text(str):
    """A string, with `HOLE` for unknown parts."""


class PathText(Text):
    """A pathlib path, or a path from a directory listing, as text."""


class Items(tuple["Value", ...]):
    """A literal list, tuple or set, or a loop variable over one."""


class BitLength(float):
    """The number of bits of an integer that is too large to compute."""


_S = TypeVar("_S", bound=str)
Value = Name | Text | Items | int | float | range | None

_JOINING = re.compile(r"os\.path\.join|pathlib\.(Pure)?(Posix)?Path(\.joinpath)?")
_SAME = re.compile(r"os\.path\.(abs|real|norm|expand)\w+|os\.fspath|builtins\.str|pathlib\.Path\.(res|abs|exp|as_p)\w+")
_LISTING = re.compile(r"os\.(walk|fwalk|listdir|scandir)|glob\.i?glob|pathlib\.Path\.(iterdir|r?glob|walk)")
_BEFORE_PROGRAM = re.compile(
    r"(?:sudo(?: -\S+)*|env|exec|time|nohup|\w+=\S*|(?:/\S*/)?(?:ba|da|z)?sh(?: -\w+)* -\w*c)(?:\s+|$)|[({!%]\s*"
)


def parts(args: tuple[Value, ...], kind: type[_S]) -> Iterator[_S]:
    """Yield the arguments, and items of arguments, that are of type *kind*."""
    return (item for arg in args for item in (arg if isinstance(arg, Items) else (arg,)) if isinstance(item, kind))


def joined(separator: str, values: tuple[Value, ...]) -> Text:
    """Return *values* joined by *separator*."""
    return Text(separator.join(map(_shown, values))[:LONGEST])


def _shown(value: Value) -> str:
    if isinstance(value, Text):
        return value
    if value == "sys.executable":
        return "python"
    return str(value) if isinstance(value, int) and abs(value) < 1 << 64 else HOLE


def path_of(text: str) -> str:
    """Return *text* as an absolute path, or one that begins with ``~``, in the sandbox; empty if unknown."""
    text = re.sub(r"^(\$HOME|\$\{HOME\})", "~", text.removeprefix("file://"))
    if text.startswith(HOLE):
        return ""
    if not text.startswith("~"):
        text = posixpath.join("/workspace", text)
    return posixpath.normpath(text).replace("//", "/")


def call_result(name: Name, args: tuple[Value, ...]) -> Value:
    """Return the abstract result of calling *name*. *args* begin with the object of a method."""
    first, second = (*args, None, None)[:2]
    if _JOINING.fullmatch(name):
        kind = PathText if name.startswith("pathlib") else Text
        return kind(posixpath.join(*map(_shown, args), *([] if args else ["."]))[:LONGEST])
    if _SAME.fullmatch(name) and isinstance(first, (Text, Items)):
        return first
    if name == "pathlib.Path.home" or (name in ("os.getenv", "os.environ.get") and first == "HOME"):
        return PathText("~")
    if name in ("os.getcwd", "pathlib.Path.cwd"):
        return PathText("/workspace")
    if _LISTING.fullmatch(name) and isinstance(first, Text):
        return PathText(posixpath.join(first, "*"))
    if name == "builtins.str.join" and isinstance(first, Text):
        return second if isinstance(second, Name) else joined(first, second) if isinstance(second, Items) else None
    if name == "builtins.str.format" and isinstance(first, Text):
        rest = iter(args[1:])
        return Text(re.sub(r"\{[^{}]*\}", lambda _: _shown(next(rest, None)), first)[:LONGEST])
    if name == "builtins.range" and 0 < len(args) < 4 and all(isinstance(arg, int) for arg in args):
        numbers: Any = args
        return range(*numbers) if len(args) < 3 or numbers[2] else None
    if name == "builtins.map" and isinstance(first, Name):
        return Name(f"{first}()")
    if name in ("builtins.__import__", "importlib.import_module") and isinstance(first, Text):
        return Name(first.partition(".")[0] if name.startswith("builtins") else first)
    if name == "builtins.getattr" and isinstance(second, Text):
        return Name(f"{first if isinstance(first, Name) else '?'}.{second}"[:LONGEST_NAME])
    return Name(f"{name}()") if len(name) < LONGEST_NAME else None


def operator_result(name: str, left: Value, right: Value) -> Value:
    """Return the abstract result of the function *name* of the module `operator`."""
    if name == "truediv" and isinstance(left, PathText):
        return PathText(posixpath.join(left, _shown(right))[:LONGEST])
    if name == "add" and isinstance(left, Items) and isinstance(right, Items):
        return Items((left + right)[:256])
    if name == "add" and (isinstance(left, Text) or isinstance(right, Text)):
        return joined("", (left, right))
    if name == "mod" and isinstance(left, Text):
        rest = iter(right if isinstance(right, Items) else (right,))
        return Text(re.sub(r"%[sdr]", lambda _: _shown(next(rest, None)), left)[:LONGEST])
    if not name or not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        return None
    if (bits := result_size(Name(f"operator.{name}"), (left, right))) > 4096 or BitLength in (type(left), type(right)):
        return BitLength(bits) if bits > 4096 else None
    try:
        return getattr(operator, name)(left, right)
    except (ArithmeticError, TypeError, ValueError):
        return None


def result_size(name: Name, args: tuple[Value, ...]) -> float:
    """Return the number of items, or bits of an integer, that a call of *name* creates, as far as is known."""
    left, right = (*args, None, None)[:2]
    if name == "operator.mul":
        left, right = (right, left) if isinstance(right, (Text, Items)) else (left, right)
        return len(left) * _amount(right) if isinstance(left, (Text, Items)) else _bits(left) + _bits(right)
    if name in ("operator.pow", "builtins.pow"):
        return _bits(left) * _amount(right) if len(args) == 2 else 0
    if name == "operator.lshift":
        return _amount(right) if left else 0
    if name.startswith("operator."):
        return 0
    if isinstance(left, range):
        return max(0, (left.stop - left.start) // left.step)
    sizes = left if isinstance(left, Items) and not name.startswith("builtins.") else (left,)
    return math.prod(filter(None, map(_amount, sizes)))


def _amount(value: Value) -> float:
    return (
        math.inf
        if isinstance(value, BitLength)
        else float(min(value, 1 << 900))
        if isinstance(value, (int, float))
        else 0
    )


def _bits(value: Value) -> float:
    return value if isinstance(value, BitLength) else value.bit_length() if isinstance(value, int) else 0


def commands(args: tuple[Value, ...]) -> Iterator[str]:
    """Yield the command lines in *args*: whole, and split at separators, each beginning with the program."""
    whole = [joined(" ", arg) if isinstance(arg, Items) else arg for arg in args if isinstance(arg, (Text, Items))]
    for candidate in (*whole, joined(" ", tuple(whole))) if len(whole) > 1 else whole:
        for segment in re.split(r"[;&|\n]+", candidate):
            segment = " ".join(re.sub("[\"'`]", " ", segment).split())
            while found := _BEFORE_PROGRAM.match(segment):
                segment = segment[found.end() :]
            yield re.sub(r"^/\S*/(?=\w)", "", segment)
        yield candidate


def packages(command: str) -> list[str]:
    """Return what *command* would install: the words after ``install`` except options and their values."""
    words = re.sub(r"(?<!\S)-(?:-?(?:r|c|i|f|t|requirement|index-url|extra-index-url|target) \S+|\S+)", " ", command)
    return [word for word in re.split(r"\b(?:install|add) ", words, maxsplit=1)[-1].split() if HOLE not in word]
