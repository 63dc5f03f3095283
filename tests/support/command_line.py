"""The command line, called in this process: starting Python for each call would dominate the unit tests."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import CompletedProcess
from unittest import mock

from mcp_agentrun.__main__ import main

__all__ = ["command"]


def command(*arguments: str, stdin: str = "", **environ: str) -> CompletedProcess[str]:
    """Run ``mcp-agentrun`` with *arguments*; *environ* is added to the environment."""
    stdout, stderr = io.StringIO(), io.StringIO()
    argv, input_ = ["mcp-agentrun", *arguments], io.TextIOWrapper(io.BytesIO(stdin.encode()))
    code: int | str | None = 0
    with (
        _unchanged(),
        mock.patch.dict(os.environ, environ),
        mock.patch.multiple(sys, argv=argv, stdin=input_, stdout=stdout, stderr=stderr),
        mock.patch.object(os, "_exit", sys.exit),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    assert code is None or isinstance(code, int), code
    return CompletedProcess(arguments, code or 0, stdout.getvalue(), stderr.getvalue())


@contextmanager
def _unchanged() -> Generator[None]:
    """Restore the handler of SIGINT and the logging configuration."""
    interrupt = signal.getsignal(signal.SIGINT)
    loggers = [logging.getLogger(name) for name in (None, "mcp_agentrun")]
    levels = [logger.level for logger in loggers]
    try:
        with mock.patch.object(logging.getLogger(), "handlers", []):
            yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
