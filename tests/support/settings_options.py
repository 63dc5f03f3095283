"""The types of settings as keyword arguments, made from their models: ``python -m tests.support.settings_options``."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

import mcp_agentrun.settings
from mcp_agentrun.settings import SETTINGS, Setting

__all__ = ["MODULE", "source"]

MODULE = Path(mcp_agentrun.settings.__file__).with_name("options.py")

OTHERWISE = ("engine", "pool", "runtime")
"""Settings that are parameters of `AsyncRuntime` or `AsyncSandbox`, with another type or default."""

_HEAD = '''"""Settings as keyword arguments, for type checkers. Made by ``python -m tests.support.settings_options``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

__all__ = ["AllOptions", "Options"]


class Options(TypedDict, total=False):
    """Settings by flat name. Sizes are in bytes, or strings such as ``"256m"``; times are in seconds."""

'''
_ALL = '''

class AllOptions(Options, total=False):
    """All settings: those as well that are parameters of `AsyncRuntime` and `AsyncSandbox`."""

'''


def _type(annotation: object, setting: Setting) -> str:
    """What may be given where the model has *annotation*."""
    origin = get_origin(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, get_args(annotation)))}]".replace("'", '"')
    if origin in (Union, types.UnionType):
        return " | ".join(_type(each, setting) for each in get_args(annotation))
    if origin is tuple:
        return "Sequence[str] | str" if setting.is_list else "tuple[int, int] | str"
    if annotation is Path:
        return "str | os.PathLike[str]"
    if annotation is types.NoneType:
        return "None"
    assert isinstance(annotation, type)
    return "int | str" if setting.metavar == "SIZE" else annotation.__name__


def _fields(*, otherwise: bool) -> Iterator[str]:
    for name, setting in sorted(SETTINGS.items()):
        if (name in OTHERWISE) == otherwise:
            yield f"    {name}: {_type(setting.field.annotation, setting)}\n"


def source() -> str:
    """The module's source as it should be."""
    text = _HEAD + "".join(_fields(otherwise=False)) + _ALL + "".join(_fields(otherwise=True))
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(MODULE), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    MODULE.write_text(source(), "utf-8")
