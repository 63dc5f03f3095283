"""What is logged, to stderr: never what code says or is, and no token or handle."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import datetime, timezone
from typing import Literal

from starlette.requests import ClientDisconnect

from ..settings import Settings
from ..spoofing import foreign

__all__ = ["configure_logging"]

logger = logging.getLogger(__name__)


_NAMES = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}|(?<=agentrun://)[^\s/'\"]+", re.IGNORECASE)
"""Ids of MCP sessions and handles: where nobody has to say who it is, whoever knows them can use them."""


def _without_names(record: logging.LogRecord) -> bool:
    """Keep out of what the SDK says whose session it is about."""
    if record.name.partition(".")[0] == "mcp":
        record.msg, record.args = _NAMES.sub("***", record.getMessage()), ()
    return True


def _without_departures(record: logging.LogRecord) -> bool:
    """Take a client that has gone in the middle of its request for what it is: no error of anybody's."""
    if not record.exc_info or not isinstance(record.exc_info[1], ClientDisconnect):
        return True
    record.name, record.levelno, record.levelname, record.exc_info = logger.name, logging.INFO, "INFO", None
    record.msg, record.args = "a client has gone in the middle of its request", ()
    return logger.isEnabledFor(logging.INFO)


class _PlainFormatter(logging.Formatter):
    """What the code or a package has a say in can't reach the operator's terminal as more than text."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.name.partition(".")[0] == "mcp":  # its message quotes what a client has sent
            bare = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
            raised, stack = _raised(record)
            return "\n  ".join([self.format(bare), f"{raised}, raised in", *stack])
        return foreign(super().format(record), lines=True)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what a record has as ``fields``; of an
    exception its type and where it was raised, without its message, which may quote anything.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": foreign(record.getMessage(), lines=True),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"], entry["stack"] = _raised(record)
        return json.dumps(entry, default=str)


def _raised(record: logging.LogRecord) -> tuple[str, list[str]]:
    """The type of the exception in *record*, and the way to where it was raised."""
    type_, _, trace = record.exc_info or (None, None, None)
    frames = traceback.extract_tb(trace)
    return "" if type_ is None else type_.__name__, [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames
    ]


def configure_logging(settings: Settings, format_: Literal["text", "json"] = "text") -> None:
    """Log from the level on that *settings* name, of libraries at most from ``warning`` on, and begin with what an
    operator should know of the settings.
    """
    level: int = getattr(logging, settings.mcp.log_level.upper())
    # Below "warning", libraries log what they carry: what tools have answered, and that is the user's.
    logging.basicConfig(stream=sys.stderr, level=max(logging.WARNING, level), force=True)
    logging.getLogger(__name__.partition(".")[0]).setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_without_names)
        handler.addFilter(_without_departures)
        if format_ == "json":
            handler.setFormatter(_JsonFormatter())
        else:
            handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if format_ == "json":
        logging.captureWarnings(True)
    for folder in settings.access.data:
        logger.warning(
            "data: code in the sandboxes reads %s. It can lock files there (flock), which programs that lock them wait "
            "for, and use sockets and FIFOs that are made there later, where their permissions let others",
            folder,
        )
    if settings.access.network != "none":
        logger.warning(
            "network is %s: code in the sandboxes reaches whatever this machine reaches, and can send data there",
            settings.access.network,
        )
