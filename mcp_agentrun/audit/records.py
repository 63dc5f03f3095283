"""What the audit trail records of a call. Output, error messages of user code and secrets are never part of it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any, Literal, cast, get_args

from ..errors import (
    BusyError,
    CapacityError,
    FileError,
    InstallError,
    InvalidRequestError,
    NotReadyError,
    SandboxLostError,
    UnavailableError,
)
from ..sandbox import Event, FileDone, InstallDone, Refused, ResetDone, Result, RunAccepted, RunDone
from ..spoofing import encodable
from .interface import Interface, current_interface

__all__ = ["KINDS", "Kind", "Record", "dropped", "record_of", "refused_request"]

Kind = Literal["run", "install", "reset", "file", "refusal", "dropped"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SANDBOX_ID = 12
"""Characters of a sandbox's id. The whole id would lead to its packages."""

_LONGEST = 500
_MOST_REQUIREMENTS = 100
_URL = re.compile(r"://(?:[^\s/?#]*@)?([^\s?#'\"]*)[^\s'\"]*")


@dataclass(frozen=True)
class Record:
    """One line of the audit trail. What does not apply is None or empty, and left out of the line.

    Times are in seconds, sizes in bytes.
    """

    time: str
    """When the call ended, or a run in the background was accepted, in UTC, as in ISO 8601."""
    kind: Kind
    outcome: str
    """``ok``; of a run as in `mcp_agentrun.Outcome`, and ``started`` for one in the background that has another line at
    its end; of a refusal ``refused``; of a file a `mcp_agentrun.FileReason`; otherwise ``error``, ``unavailable``,
    ``lost`` or ``cancelled``."""
    who: str | None = None
    """Name of the principal; None if the server requires no authentication."""
    interface: str | None = None
    address: str | None = None
    """IP address of a client that was refused before its request reached an endpoint."""
    sandbox: str | None = None
    """Beginning of the sandbox's id, which is no handle."""
    action: str | None = None
    """What was refused, or done with a file."""
    reason: str | None = None
    """Of a refusal: ``rule``, ``busy``, ``quota``, ``queue``, ``capacity``, ``memory``, or the invalid
    argument; before an endpoint ``token``, ``scope``, ``origin``, ``host``, ``slow``, ``body``, ``rate`` or
    ``shutdown``."""
    detail: str | None = None
    """What a refused or failed call was told."""
    rules: tuple[str, ...] = ()
    """Rules of the static check that the code breaks."""
    seconds: float | None = None
    """From the call's arrival to its end."""
    queue_seconds: float | None = None
    """What of these the call waited for its turn."""
    run_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    output_bytes: int | None = None
    limits: tuple[str, ...] = ()
    """Limits that were reached: ``timeout``, ``memory``, ``output``, ``pids`` or a folder."""
    error: str | None = None
    """Type of the exception that ended the code."""
    code_sha256: str | None = None
    code: str | None = None
    cause: str | None = None
    """Of an installation: ``request``, ``code`` or ``restore``."""
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Packages that came in, as ``name==version``, with their dependencies."""
    keep: tuple[str, ...] = ()
    """What a reset kept: ``packages``, ``files``."""
    path: str | None = None
    size: int | None = None
    lines: int | None = None
    """Of ``dropped``: how many lines were not written."""

    def line(self) -> bytes:
        """Return the line, in ASCII, with its end. Every JSON parser accepts it, so lone surrogates are replaced."""
        values = {name: _valid(value) for name in _NAMES if (value := getattr(self, name)) is not None and value != ()}
        return _to_json(values).encode("ascii") + b"\n"


_NAMES = tuple(field.name for field in fields(Record))
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def _valid(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_valid, cast("tuple[Any, ...]", value)))
    return encodable(value) if isinstance(value, str) else value


def record_of(principal: str, event: Event, *, with_code: bool = False) -> Record:
    """Return what is recorded of *event*.

    :param principal: as in `mcp_agentrun.sessions.Caller`.
    :param with_code: record the code of runs.
    """
    timing = event.timing
    given: dict[str, Any] = {
        "time": _now(),
        "who": _name(principal),
        "interface": current_interface(),
        "seconds": _rounded(timing.seconds),
        "queue_seconds": _rounded(timing.queued),
        "outcome": _outcome(timing.error),
        "detail": None if timing.error is None else _detail(timing.error),
    }
    match event:
        case RunAccepted():
            given |= {"kind": "run", **_of_code(event.code, with_code=with_code)}
            if timing.error is None:
                given["outcome"] = "started"
        case RunDone():
            given |= {"kind": "run", **_of_code(event.code, with_code=with_code)}
            if event.result is not None and timing.error is None:
                given |= _of_result(event.result)
        case InstallDone():
            given |= {
                "kind": "install",
                "cause": event.cause,
                "requirements": tuple(map(_redacted, event.requirements[:_MOST_REQUIREMENTS])),
            }
            if event.installed is not None:
                given["packages"] = tuple(f"{name}=={version}" for name, version in event.installed.packages)
        case ResetDone():
            kept = {"packages": event.keep_packages, "files": event.keep_files}
            given |= {"kind": "reset", "keep": tuple(name for name, is_kept in kept.items() if is_kept)}
        case FileDone():
            given |= {"kind": "file", "action": event.operation, "path": event.path[:_LONGEST], "size": event.size}
        case Refused():
            given["kind"] = "open"
    if not isinstance(event, Refused):
        given["sandbox"] = event.sandbox[:_SANDBOX_ID]
    reason = "rule" if given["outcome"] == "blocked" else _refusal(timing.error)
    if reason is not None:
        action = given.get("action") or given["kind"]
        given |= {"kind": "refusal", "action": action, "reason": reason, "outcome": "refused"}
    return Record(**given)


def refused_request(principal: str, interface: Interface | None, address: str, *, reason: str, detail: str) -> Record:
    """Return the record of a request that was refused before it reached an endpoint."""
    return Record(
        time=_now(),
        kind="refusal",
        outcome="refused",
        who=_name(principal),
        interface=interface,
        address=address or None,
        action="request",
        reason=reason,
        detail=detail,
    )


def dropped(lines: int) -> Record:
    """Return the record of *lines* that were not written."""
    return Record(time=_now(), kind="dropped", outcome="error", lines=lines)


def _of_code(code: object, *, with_code: bool) -> dict[str, Any]:
    if not isinstance(code, str):
        return {}
    digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
    return {"code_sha256": digest, "code": code if with_code else None}


def _of_result(result: Result) -> dict[str, Any]:
    error = result.error
    output = result.output
    limits = [{"memory_limit": "memory", "timeout": "timeout"}.get(result.outcome)]
    limits += ["output" if output.written > len(output.head) + len(output.tail) else None]
    limits += error.full if error is not None else ()
    return {
        "outcome": result.outcome,
        "rules": tuple(dict.fromkeys(finding.rule for finding in result.findings)),
        "run_seconds": _rounded(result.duration),
        "cpu_seconds": _rounded(result.cpu_time),
        "peak_memory": result.peak_memory,
        "output_bytes": output.written,
        "limits": tuple(limit for limit in limits if limit is not None),
        "error": None if error is None else error.type[:_LONGEST],
    }


def _refusal(error: BaseException | None) -> str | None:
    """Return why the call was refused, or None if it was not."""
    match error:
        case CapacityError():
            return error.reason
        case BusyError():
            return "busy"
        case InvalidRequestError():
            return "argument" if error.argument is None else error.argument
        case _:
            return None


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "ok"
        case FileError():
            return error.reason
        case SandboxLostError():
            return "lost"
        case UnavailableError() | NotReadyError():
            return "unavailable"
        case Exception():
            return "error"
        case _:
            return "cancelled"


def _detail(error: BaseException) -> str | None:
    """Return the message of an error of ours, which quotes neither code nor output. Others only have a type."""
    if isinstance(error, InvalidRequestError) and error.argument == "sandbox":
        return "The caller has no such sandbox."  # the message quotes the handle, which may be another's
    if isinstance(error, (CapacityError, InstallError, InvalidRequestError, UnavailableError)):
        return _redacted(error)
    return None if isinstance(error, FileError) else type(error).__name__


def _redacted(text: object) -> str:
    """Return *text* without what may be secret in URLs: user, password, query and fragment."""
    return _URL.sub(r"://\1", str(text))[:_LONGEST]


def _name(principal: str) -> str | None:
    """Return the name of a *principal*: its id at the issuer and its subject, as far as the server knows them."""
    if not principal.startswith("["):
        return principal or None
    return " ".join(str(part) for part in json.loads(principal) if part is not None)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
