"""Frames: how host, supervisor and worker talk over a byte stream.

A frame is a five-byte header, big-endian ``uint32`` payload length and ``uint8`` kind, and the payload. Kinds
whose payload is structured carry JSON (ASCII, so that lone surrogates survive); `Kind.OUTPUT` carries raw bytes.

The module is standard library only and runs unchanged on the host and inside the runner image: it is copied
into the image's build context. Both ends treat what they read as hostile: lengths are checked before a byte of
payload is kept, unknown kinds and malformed JSON end the stream with `FrameError`.
"""

from __future__ import annotations

import builtins
import enum
import json
import struct
from collections.abc import Iterator

__builtins__ = dict(vars(builtins))  # of the functions below: in a worker, user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "MAX_FRAME",
    "VERSION",
    "Frame",
    "FrameDecoder",
    "FrameError",
    "Kind",
    "decode_json",
    "encode",
    "encode_json",
]

VERSION = 3
"""Spoken in the first frame by both ends; a mismatch means image and server are of different releases."""

MAX_FRAME = 4 * 1024 * 1024
"""Largest payload in bytes. Bulk data is split by its sender; nothing legitimate comes near."""

_HEADER = struct.Struct(">IB")
_to_json = json.JSONEncoder(separators=(",", ":")).encode  # of our own: user code may replace the module's functions
_from_json = json.JSONDecoder().decode
_COMPACT_AT = 1 << 16


class FrameError(ValueError):
    """The bytes are not valid frames; the stream can't be used any further."""


class Kind(enum.IntEnum):
    """What a frame means. The number is the wire format: never reuse one."""

    HELLO = 1
    """First frame of either end: ``version`` and facts about the sender."""
    READY = 2
    """Supervisor: a worker waits for code; ``data`` has device and inode of each folder named in the first frame, and
    ``boot`` the kernel's boot id. Installer: the volume is usable, and has packages for those sandboxes of the server's
    that ``held`` names."""
    PING = 3
    PONG = 4
    RUN = 10
    """Execute code: ``run``, ``code``, ``timeout`` in seconds, ``path`` of the session's packages or null. Where they
    replace some of the image's, a worker that has not run anything must be ``bare``: without the preloaded ones."""
    CANCEL = 11
    """Interrupt the run named in ``run``; its result still follows."""
    OUTPUT = 12
    """Raw bytes that the current run wrote to descriptors 1 and 2."""
    RESULT = 13
    """How run ``run`` ended; always the last frame of a run."""
    OUTPUT_TAIL = 15
    """Raw bytes: the last ones of an output too large to be forwarded whole; what lies between was discarded."""
    LATE = 14
    """Raw bytes written between runs, sent before the next run's own output."""
    RESET = 20
    """Replace the worker by a fresh one, ``bare`` or not; ``keep_files`` leaves workspace and temporary files alone."""
    RESET_DONE = 21
    INSTALL = 30
    """Installer: resolve and install ``requirements`` for ``sandbox``, which has ``before``, version by name, from
    ``sources``; where ``is_open``, what is resolved may be fetched before it is approved. Like all requests to an
    installer it has the number ``request``, which each answer repeats."""
    INSTALL_PROGRESS = 31
    INSTALL_DONE = 32
    """Installer: the ``folder`` for ``sandbox``, ``packages``, what was ``satisfied``, which of the image's are
    ``replaced``, the ``modules`` of packages that the sandbox or the image has in another version, ``notes`` about what
    is not in its newest version; or ``error``."""
    INSTALL_CANCEL = 33
    FORGET = 34
    """Installer: remove what was installed for ``sandbox``."""
    FORGOTTEN = 35
    FORK = 40
    """Supervisor to zygote: fork a worker that serves the socket sent along."""
    FORKED = 41
    """Maker to supervisor: answer to `FORK` or `CHECKPOINT`; ``error`` says why there is no fork, or is null."""
    WARM = 42
    """Zygote to supervisor: the data packages are imported."""
    CHECKPOINT = 43
    """Supervisor to worker: fork a frozen copy of yourself that serves the socket sent along."""
    ITEM = 50
    """Worker, and on to the server: a picture of the current run follows; ``type`` and ``size`` in bytes."""
    ITEM_DATA = 51
    """Raw bytes: the next part of the picture that the last `ITEM` has announced."""
    READ = 52
    """Supervisor: read a part of a file of the workspace: ``path``, ``offset``, ``length``."""
    FILE = 53
    """What the file is: ``size``, ``stamp``, ``length`` of the data that follows; or ``error``, a reason's code."""
    FILE_DATA = 54
    """Raw bytes: the part that was asked for, in one frame."""
    LIST = 55
    """Supervisor: list the files below ``folder`` whose paths come after ``after``; both are empty for all files."""
    FILES = 56
    """The first of the ``files``, each path, size and time; how many ``more`` there are; whether the list ``is_cut``
    because there are too many files to read. Or ``error``."""
    WRITE = 80
    """Supervisor: begin to write a file at ``path``. Answered by `WRITTEN`, as are the next two; an ``error`` ends the
    writing, and nothing of the file stays."""
    WRITE_DATA = 81
    """Raw bytes: append them to the file that is being written."""
    WRITE_END = 82
    """Supervisor: the file is complete and takes its place, or is discarded, depending on ``keep``."""
    WRITTEN = 83
    """Whether that succeeded: ``error`` or null; after the end, when the file was ``changed``, in nanoseconds."""
    REMOVE = 84
    """Supervisor: remove the file at ``path``."""
    REMOVED = 85
    """Whether that succeeded: ``error`` or null."""
    MISSING = 60
    """Supervisor: run ``run``, held back meanwhile, imports ``names`` that can't be found."""
    PROCEED = 61
    """Answer to `MISSING`: start run ``run`` with ``path`` and ``bare``."""
    RESOLVED = 62
    """Installer: ``pins``, version by name, of all that would be installed, before anybody sees any of it."""
    APPROVED = 63
    """Answer to `RESOLVED`: ``refusal``, or null, and ``hashes`` by pin."""
    CACHE = 64
    """Installer: say what the cache holds, after removing it all where ``clear`` is true."""
    CACHED = 65
    """Answer to `CACHE`: ``size`` in bytes, ``packages`` with the times of their last use, and how many parts were
    ``busy`` and could not be cleared."""
    WHEELS = 66
    """Installer: have the wheelhouse ``digest`` ready. Answered by itself, with whether its files are ``wanted``."""
    WHEEL = 67
    """Installer: ``data``, in base64, to be added to the wheelhouse's file ``name``; the last one has no name."""
    CHECK = 70
    """Supervisor to checker: judge ``code`` by the rules that ``options`` names; ``names`` are those of the session, or
    null for those that this checker has."""
    CHECKED = 71
    """Checker to supervisor: ``allowed``, ``findings``, ``imports``, and the session's ``names`` where they changed."""


_KINDS = {int(kind): kind for kind in Kind}

Frame = tuple[Kind, bytes]


def encode(kind: Kind, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """The bytes of one frame.

    :raises FrameError: the payload is larger than `MAX_FRAME`.
    """
    if len(payload) > MAX_FRAME:
        raise FrameError(f"a {kind.name} frame of {len(payload)} bytes exceeds {MAX_FRAME}")
    return _HEADER.pack(len(payload), kind) + payload


def encode_json(kind: Kind, **fields: Any) -> bytes:
    """The bytes of one frame whose payload is the JSON object of *fields*."""
    return encode(kind, _to_json(fields).encode("ascii"))


def decode_json(payload: bytes) -> dict[str, Any]:
    """The JSON object in *payload*.

    :raises FrameError: it is not a JSON object, or nested too deeply to be one of ours.
    """
    try:
        fields = _from_json(payload.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(f"malformed JSON payload: {type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise FrameError("the payload is not a JSON object")
    return fields  # pyright: ignore[reportUnknownVariableType]


class FrameDecoder:
    """Turns a byte stream, cut anywhere, back into frames.

    :param limit: largest payload accepted, in bytes.
    """

    def __init__(self, *, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes that were read from the stream."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes fed that no complete frame has used yet."""
        return len(self._buffer) - self._start

    def __iter__(self) -> Iterator[Frame]:
        """Every complete frame among the bytes fed so far.

        :raises FrameError: a header announces too large a payload or an unknown kind. A header is judged as soon
            as it is complete, so that no more than the limit is ever buffered for one frame.
        """
        while self.pending >= _HEADER.size:
            length, number = _HEADER.unpack_from(self._buffer, self._start)
            if length > self._limit:
                raise FrameError(f"a frame of {length} bytes exceeds {self._limit}")
            kind = _KINDS.get(number)
            if kind is None:
                raise FrameError(f"unknown frame kind {number}")
            end = self._start + _HEADER.size + length
            if end > len(self._buffer):
                return
            payload = bytes(memoryview(self._buffer)[self._start + _HEADER.size : end])
            self._start = end
            if self._start == len(self._buffer):
                self._buffer.clear()
                self._start = 0
            elif self._start > _COMPACT_AT:
                del self._buffer[: self._start]
                self._start = 0
            yield kind, payload
