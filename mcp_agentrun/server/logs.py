"""Logging to stderr, without code, output, tokens or handles."""

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
from ..spoofing import sanitize

__all__ = ["configure_logging"]

logger = logging.getLogger(__name__)


_IDS = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}|(?<=agentrun://)[^\s/'\"]+", re.IGNORECASE)
"""Ids of MCP sessions, and handles: without authentication, everyone who knows them can use them."""


def _without_ids(record: logging.LogRecord) -> bool:
    """Remove ids of sessions and handles from messages of the SDK."""
    if record.name.partition(".")[0] == "mcp":
        record.msg, record.args = _IDS.sub("***", record.getMessage()), ()
    return True


def _without_disconnects(record: logging.LogRecord) -> bool:
    """Turn the error about a client that disconnected during its request into a message of level ``info``."""
    if not record.exc_info or not isinstance(record.exc_info[1], ClientDisconnect):
        return True
    record.name, record.levelno, record.levelname, record.exc_info = logger.name, logging.INFO, "INFO", None
    record.msg, record.args = "a client disconnected during its request", ()
    return logger.isEnabledFor(logging.INFO)


class _PlainFormatter(logging.Formatter):
    """Lines of text, without escape sequences that user code or a package could send to the operator's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.name.partition(".")[0] == "mcp":  # its message quotes the client
            bare = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
            raised, stack = _raised(record)
            return "\n  ".join([self.format(bare), f"{raised}, raised in", *stack])
        return sanitize(super().format(record), lines=True)


class _JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the record's ``fields``.

    An exception adds its type and where it was raised, but not its message, which may quote user code.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": sanitize(record.getMessage(), lines=True),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["exception"], entry["stack"] = _raised(record)
        return json.dumps(entry, default=str)


def _raised(record: logging.LogRecord) -> tuple[str, list[str]]:
    """Return the type of the exception in *record*, and its stack."""
    type_, _, trace = record.exc_info or (None, None, None)
    frames = traceback.extract_tb(trace)
    return "" if type_ is None else type_.__name__, [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames
    ]


def configure_logging(settings: Settings, format_: Literal["text", "json"] = "text") -> None:
    """Configure logging as *settings* say, and warn about settings that weaken isolation."""
    level: int = getattr(logging, settings.mcp.log_level.upper())
    # Below "warning", libraries log the content of messages, which belongs to the user.
    logging.basicConfig(stream=sys.stderr, level=max(logging.WARNING, level), force=True)
    logging.getLogger(__name__.partition(".")[0]).setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_without_ids)
        handler.addFilter(_without_disconnects)
        if format_ == "json":
            handler.setFormatter(_JsonFormatter())
        else:
            handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if format_ == "json":
        logging.captureWarnings(True)
    for folder in settings.access.data:
        logger.warning(
            "data: code in the sandboxes can read %s. It can also lock files there (flock), which may block other "
            "programs, and use sockets and FIFOs that are created there later, if their permissions allow it",
            folder,
        )
    if settings.access.network != "none":
        logger.warning(
            "network is %s: code in the sandboxes can connect to everything that this machine can, and send data there",
            settings.access.network,
        )
