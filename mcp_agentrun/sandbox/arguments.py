"""What `AsyncSandbox.run` is given: checked before anything is run, and output on its way to a callback."""

from __future__ import annotations

import codecs
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from ..errors import InvalidRequestError
from ..settings import Settings
from .execution import OnBytes

__all__ = ["OnOutput", "checked_code", "checked_timeout", "decoded"]

OnOutput = Callable[[str], "Awaitable[None] | None"]
"""Called, and awaited if it returns an awaitable, with what code writes to stdout and stderr, as it is written."""


def checked_timeout(timeout: float | None, settings: Settings) -> float:
    """*timeout*, or the default, in seconds.

    :raises InvalidRequestError: it is not positive, or exceeds the operator's limit.
    :raises TypeError: it is not a number.
    """
    if timeout is None:
        return settings.limits.timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout > 0:
        raise InvalidRequestError("timeout must be a positive number of seconds", argument="timeout")
    if timeout > settings.limits.max_timeout:
        raise InvalidRequestError(
            f"timeout is {timeout:g} s, but this server allows at most {settings.limits.max_timeout:g} s",
            argument="timeout",
            limit=settings.limits.max_timeout,
        )
    return timeout


def checked_code(code: str, settings: Settings) -> str:
    """*code* without a byte order mark.

    :raises InvalidRequestError: it is too long, or not text that Python can read.
    :raises TypeError: it is not a string.
    """
    if not isinstance(code, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"code must be a string, not {type(code).__name__}")
    code = code.removeprefix("\ufeff")
    limit = settings.limits.code_limit
    if len(code) > limit or len(code.encode("utf-8", "replace")) > limit:
        raise InvalidRequestError(
            f"the code exceeds the limit of {limit} bytes; split it over several calls, or write data to a file in "
            "parts",
            argument="code",
            limit=limit,
        )
    if "\0" in code:
        raise InvalidRequestError(
            f"the code contains a NUL character at position {code.index(chr(0))}; remove it", argument="code"
        )
    for position, character in enumerate(code) if not code.isascii() else ():
        if "\ud800" <= character <= "\udfff":
            raise InvalidRequestError(
                f"the code contains a lone surrogate (U+{ord(character):04X}) at position {position}, which is not "
                "valid Unicode text; write it as an escape sequence",
                argument="code",
            )
    return code


@asynccontextmanager
async def decoded(on_output: OnOutput | None, on_bytes: OnBytes | None) -> AsyncGenerator[OnBytes | None]:
    """A receiver of bytes that calls *on_output* with text; characters that are cut between two parts stay whole."""
    if on_output is None:
        yield on_bytes
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def receive(data: bytes, final: bool = False) -> None:
        if on_bytes is not None and data:
            await on_bytes(data)
        if (text := decoder.decode(data, final)) and inspect.isawaitable(called := on_output(text)):
            await called

    yield receive
    await receive(b"", final=True)
