"""What is wrong with a call's arguments, in words for the model: the SDK drops those that it doesn't know, and answers
to wrong types with a validator's own text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from mcp.server.context import ServerRequestContext
from pydantic import TypeAdapter, ValidationError

__all__ = ["wrong_arguments"]


class _Argument(NamedTuple):
    type: TypeAdapter[Any]
    wanted: str
    is_required: bool = False


_SANDBOX = _Argument(TypeAdapter(str | None), "the handle of a sandbox as text, or left out")
_FLAG = _Argument(TypeAdapter(bool), "true or false")
_PACKAGES = _Argument(TypeAdapter(str | list[str]), "a text, or a list of texts", is_required=True)
_TOOLS = {
    "run_python": {
        "code": _Argument(TypeAdapter(str), "a text", is_required=True),
        "timeout": _Argument(TypeAdapter(float | None), "a number of seconds, or left out"),
        "sandbox": _SANDBOX,
    },
    "install_package": {"packages": _PACKAGES, "sandbox": _SANDBOX},
    "reset_sandbox": {"keep_packages": _FLAG, "keep_files": _FLAG, "sandbox": _SANDBOX},
}


def wrong_arguments(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """What is wrong with those of a call of one of our tools, a line each; None for what is right, or no such call."""
    params: Mapping[str, Any] = ctx.params if ctx.method == "tools/call" and ctx.params else {}
    given, known = params.get("arguments"), _TOOLS.get(str(params.get("name")))
    if known is None or not isinstance(given, Mapping | None):
        return None
    values = cast("Mapping[str, Any]", given or {})
    for name in values:
        if name not in known:  # a misspelt keep_files would cost the files
            return f"there is no argument {name[:40]!a}; {params['name']} takes {', '.join(known)}."
    wrong = [
        f"`{name}` must be {argument.wanted}; {_came(values, name)}."
        for name, argument in known.items()
        if (name in values or argument.is_required) and not _is_right(argument, values.get(name))
    ]
    return "\n".join(wrong) or None


def _is_right(argument: _Argument, value: object) -> bool:
    if isinstance(value, bool) and argument is not _FLAG:
        return False
    if isinstance(value, str) and value[:1] in ("[", "{") and argument.wanted != "a text":
        with contextlib.suppress(ValueError, RecursionError):  # some clients write lists so, and the SDK reads them
            value = json.loads(value)
    try:
        argument.type.validate_python(value)
    except ValidationError:
        return False
    return True


def _came(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "it is missing"
    text = json.dumps(values[name])
    return f"{text if len(text) <= 60 else text[:60] + '...'} was given"
