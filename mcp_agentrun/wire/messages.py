"""The messages that server, supervisor, workers, checkers and installers exchange: one class for each kind.

All fields of a received message are validated before it is used: see `mcp_agentrun.wire.records`. Strings have at most
65,536 characters and collections at most 10,000 items, unless a field says otherwise.

Standard library only, because the runner image has a copy.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator

from .codec import MAX_FRAME, Frame, FrameDecoder, ProtocolError, encode_frame
from .records import Literal, Record, field

__builtins__ = dict(vars(builtins))  # of the functions below: in a worker, user code may change the real ones
TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from typing import ClassVar

    from typing_extensions import Self

VERSION = 6  # of the protocol; differs if image and server are of different releases
Outcome = Literal["ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled"]  # how a run ended
State = Literal["kept", "restored", "lost"]  # of the session's variables, from best to worst
Resource = Literal["/workspace", "/tmp", "/dev/shm", "pids"]  # noqa: S108
"""A resource that can be exhausted: a folder, or ``pids`` for processes and threads."""

WRITABLE = {"/workspace": 0o700, "/tmp": 0o1777, "/dev/shm": 0o1777}  # noqa: S108
"""Folders of a container that user code may write to, with their modes."""

PIDS = "pids"

PROBE = 0  # number of the empty run of a restored checkpoint; runs of user code count from 1
MOST_NAMES, LONGEST_NAME = 500, 100  # modules that a report may name as imported, and characters of a name
MOST_IMPORTS = 10_000  # modules that a verdict may name as imported by the code
MOST_REQUIREMENTS = 50  # packages that code may ask for by ``pip install``
MOST_CAUSES = 10  # exceptions that a report may name as what ended a run
LONGEST_PATH = 4096  # characters of a file's path
MOST_LISTED = 1000  # files that an answer may list
PICTURE_LIMIT = 8 << 20  # bytes of the pictures of one run
PART_LIMIT = 1 << 20  # bytes of a file that are read at a time
INPUT_LIMIT = 1 << 16  # bytes of standard input that are sent at a time

_NAMES = r"[^\0\ud800-\udc7f\udd00-\udfff]*"  # what `os.fsencode` can encode
FILE_PATH = r"(?:(?!\.{1,2}(?:/|\Z))[^/\0\ud800-\udc7f\udd00-\udfff]+(?:/(?!\Z)|\Z))+"
"""Pattern of a relative path without ``..``. Bytes that are not UTF-8 are escaped as by `os.fsdecode`."""

_ID = "[0-9a-f]{32}"
_ANY_LENGTH = MAX_FRAME

_to_json = json.JSONEncoder(separators=(",", ":"), default=vars).encode  # user code can replace the module's functions
_from_json = json.JSONDecoder().decode
_classes: dict[int, type[Message]] = {}


class Message(Record):
    """Base class of messages. Those without fields have an empty payload.

    :param kind: number of the class on the wire. Numbers are never reused.
    """

    if TYPE_CHECKING:
        kind: ClassVar[int]

    def __init_subclass__(cls, *, kind: int | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            _classes[kind] = cls

    def payload(self) -> bytes:
        """Return the payload of the message's frame: JSON in ASCII, which can contain lone surrogates."""
        return _to_json(vars(self)).encode("ascii") if self._hints else b""

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Decode *payload*.

        :raises ProtocolError: it is malformed.
        """
        if not cls._hints:
            if payload:
                raise ProtocolError("expected an empty payload")
            return cls()
        try:
            fields = _from_json(payload.decode())
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"malformed JSON ({type(error).__name__})") from None
        return cls.validated(fields)


class Data(Message):
    """Base class of messages that contain only raw bytes."""

    data: bytes

    def payload(self) -> bytes:
        return self.data

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        limits = cls._limits["data"]
        if len(payload) > limits.length:
            raise ProtocolError(f"expected at most {limits.length} bytes")
        return cls(data=payload)


def encode(message: Message) -> bytes:
    """Return the frame of *message*.

    :raises ProtocolError: it is larger than `MAX_FRAME`.
    """
    return encode_frame(message.kind, message.payload())


def decode(frame: Frame) -> Message:
    """Decode *frame*.

    :raises ProtocolError: its kind is unknown, or it is malformed.
    """
    kind, payload = frame
    cls = _classes.get(kind)
    if cls is None:
        raise ProtocolError(f"unknown message kind {kind}")
    try:
        return cls.from_payload(payload)
    except ProtocolError as error:
        raise ProtocolError(f"malformed {cls.__name__} message: {error}") from None


class MessageDecoder(FrameDecoder):
    """Splits a byte stream, whose parts may end anywhere, into messages: `feed` it and iterate."""

    def __iter__(self) -> Iterator[Message]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return map(decode, super().__iter__())


# -- both directions


class Ping(Message, kind=3):
    """Request for a sign of life, answered by `Pong`."""


class Pong(Message, kind=4):
    """Answer to `Ping`."""


# -- server to supervisor


class SafetyOptions(Record):
    """How code is checked: the arguments of `mcp_agentrun.safety.check`."""

    profile: Literal["strict", "standard", "off"]
    off: tuple[str, ...]  # ids of disabled rules
    warn: bool  # report findings, but run the code
    rules: str = field(length=_ANY_LENGTH)  # the operator's own rules, in TOML


class SupervisorHello(Message, kind=90):
    """First message to a supervisor, answered by `SupervisorReady`."""

    version: int = field(low=VERSION, high=VERSION)
    data: tuple[str, ...]  # paths of the operator's folders in the container
    preload: tuple[str, ...]  # modules that workers import in advance
    output_keep: int = field(low=0)  # number of bytes of a run's output that are forwarded
    checkpoints: bool
    auto_install: bool  # report missing modules that code imports in `MissingPackages`
    user_pids: int = field(low=-1)  # maximum number of processes and threads of user code; -1 for no limit
    safety: SafetyOptions


class Script(Record):
    """How to execute code as a program, as ``python`` does, instead of as a notebook cell."""

    filename: str = field(length=LONGEST_PATH)  # its name in tracebacks
    argv: tuple[str, ...] = field(length=1 << 17)
    is_file: bool  # `filename` is the path of a file in the container: the program's ``__file__``
    has_stdin: bool  # its standard input follows in `Input`; otherwise it is empty
    ends_session: bool = False  # wait for its threads, call `atexit` functions, and finalize all variables


class Run(Message, kind=10):
    """Execute code, answered by `RunResult`."""

    run: int = field(low=1)
    code: str = field(length=1 << 19)
    timeout: float = field(low=0, high=1e9)  # seconds
    path: str | None  # folder of the session's packages
    no_preload: bool
    """Use a worker that has imported nothing in advance, because packages of the image are replaced."""
    stream: bool = False  # forward all output, not only its first `SupervisorHello.output_keep` bytes
    script: Script | None = None


class Input(Data, kind=16):
    """The next part of the current run's standard input, answered by `InputTaken`. An empty part is the end, and is not
    answered.
    """

    data: bytes = field(length=INPUT_LIMIT)


class Proceed(Message, kind=61):
    """Answer to `MissingPackages`: start the run with these packages, as in `Run`."""

    run: int
    path: str | None
    no_preload: bool


class Cancel(Message, kind=11):
    """Interrupt a run. Its `RunResult` still follows."""

    run: int


class Reset(Message, kind=20):
    """Replace the worker with a new one, answered by `ResetDone`."""

    keep_files: bool  # keep the workspace and temporary files
    no_preload: bool  # as in `Run`


class ListFiles(Message, kind=55):
    """List files of the workspace, answered by `FileList`, even during a run."""

    folder: str = field(length=LONGEST_PATH, pattern=_NAMES)  # files below this folder; empty for the workspace
    after: str = field(length=LONGEST_PATH, pattern=_NAMES)  # files that come after this path


class WriteFile(Message, kind=80):
    """Begin to write a file. Like the next two messages, it is answered by `Written`. After an error, the file is
    discarded.
    """

    path: str = field(length=LONGEST_PATH)


class WriteData(Data, kind=81):
    """Append to the file that is being written."""

    data: bytes = field(length=PART_LIMIT)


class WriteEnd(Message, kind=82):
    """The end of the file that is being written."""

    keep: bool  # the file is complete; otherwise it is discarded


class RemoveFile(Message, kind=84):
    """Remove a file, answered by `Removed`."""

    path: str = field(length=LONGEST_PATH)


class ReadFile(Message, kind=52):
    """Read a part of a file of the workspace, answered by `FilePart`."""

    path: str = field(length=LONGEST_PATH)
    offset: int = field(low=0)
    length: int = field(low=0, high=PART_LIMIT)  # bytes


# -- supervisor to server


class SupervisorReady(Message, kind=91):
    """A worker is ready to run code."""

    distributions: tuple[tuple[str, str], ...] = field(length=1000)  # name and version of each in the image
    boot: str | None  # the kernel's boot id
    data: dict[str, tuple[int, int] | None] = field(low=0, high=1 << 64)
    """Device and inode of the operator's folders, by path in the container; None if the folder is missing."""
    memory: int | None = field(low=0, high=1 << 63)
    """The limit of the container's memory that its kernel enforces, in bytes. None if that can't be read."""


class InputTaken(Message, kind=17):
    """The last `Input` was written to the run's standard input, so that the next one can be sent."""


class OutputChunk(Data, kind=12):
    """What the current run wrote to stdout and stderr."""


class OutputTail(Data, kind=15):
    """The end of an output that is too large to be forwarded. The part after the last `OutputChunk` was discarded."""

    data: bytes = field(length=1 << 16)


class LateOutput(Data, kind=14):
    """What earlier runs wrote since the last run ended."""

    data: bytes = field(length=1 << 16)


class Picture(Message, kind=50):
    """A picture of the current run, whose data follow in `PictureData`. Workers also send it to the supervisor."""

    type: Literal["image/png"]
    size: int = field(low=1, high=PICTURE_LIMIT)  # bytes


class PictureData(Data, kind=51):
    """The next part of the last `Picture`."""


class Cause(Record):
    """An exception that ended a run, or a cause of it."""

    type: str
    text: str
    errno: int | None  # number of a system error
    path: str | None  # file of a system error
    function: str | None  # the innermost function in which it was raised


class RunError(Record):
    """The exception that ended a run."""

    type: str
    message: str
    line: int | None  # line of the code where it was raised, if known
    causes: tuple[Cause, ...] = field(items=MOST_CAUSES)  # the exception itself, and those that caused it
    full: tuple[Resource, ...] = field(items=4)  # resources that were exhausted


class Finding(Record):
    """A finding of the static check: see `mcp_agentrun.safety.Finding`."""

    rule: str
    line: int
    column: int
    reason: str
    remedy: str


class FileChange(Record):
    """A file that a run has created or changed."""

    path: str = field(length=LONGEST_PATH, pattern=FILE_PATH)
    size: int = field(low=0)  # bytes
    change: Literal["created", "changed"]


class FileEntry(Record):
    """A file of the workspace."""

    path: str = field(length=LONGEST_PATH, pattern=FILE_PATH)
    size: int = field(low=0)  # bytes
    changed: int = field(low=0)  # time of the last change, in nanoseconds since the epoch


class RunResult(Message, kind=92):
    """How a run ended; the last message of a run."""

    run: int
    outcome: Outcome
    duration: float = field(low=0, high=1e9)  # seconds from the start of the code to its end
    cpu_time: float | None = field(low=0, high=1e12)  # seconds that all its processes have used; None if unknown
    peak_memory: int | None = field(low=0)  # most memory that the container has used meanwhile, in bytes
    exit_code: int | None = field(low=-255, high=255)  # negative for a signal; None if nothing was run
    error: RunError | None
    value: str | None  # text of the last expression's value
    imported: tuple[str, ...] | None = field(items=MOST_NAMES, length=LONGEST_NAME)
    """Top-level modules of the packages that the interpreter has loaded; None if unknown."""
    written: int = field(low=0)  # total size of the output in bytes
    files: tuple[FileChange, ...] = field(items=MOST_LISTED)
    more_files: int = field(low=0)  # how many more were created or changed
    ended: int = field(low=0)  # processes that the run had left running, which were killed
    findings: tuple[Finding, ...] = field(items=MOST_LISTED)
    state: State  # what the end of the run did to the variables
    since: State  # what happened to them between the last result and this run
    unprotected: str | None
    """Why there is no checkpoint: ``memory``, ``threads``, ``hooks``, ``died`` or the name of an errno."""


class MissingPackages(Message, kind=60):
    """A run needs packages. It waits for `Proceed`."""

    run: int
    names: tuple[str, ...] = field(items=50, length=LONGEST_NAME)  # missing modules that it imports
    requirements: tuple[str, ...] = field(items=MOST_REQUIREMENTS)  # of its ``pip install`` commands


class ResetDone(Message, kind=21):
    """Answer to `Reset`."""


class FileList(Message, kind=56):
    """Answer to `ListFiles`."""

    files: tuple[FileEntry, ...] = field(default=(), items=MOST_LISTED)
    more: int = field(default=0, low=0)  # how many more there are
    is_cut: bool = False  # the workspace has too many files
    error: str | None = None  # why they can't be listed: one of `mcp_agentrun.errors.FileReason`


class Written(Message, kind=83):
    """Answer to `WriteFile`, `WriteData` and `WriteEnd`."""

    error: str | None = None  # as in `FileList`
    changed: int = field(default=0, low=0)  # time of the last change, in nanoseconds, after its end


class Removed(Message, kind=85):
    """Answer to `RemoveFile`."""

    error: str | None  # as in `FileList`


class FilePart(Message, kind=53):
    """Answer to `ReadFile`; unless there is an error or no data, `FileData` follows."""

    size: int = field(default=0, low=0)  # size of the whole file in bytes
    stamp: str = ""  # changes when the file changes
    length: int = field(default=0, low=0, high=PART_LIMIT)  # size of the data that follow, in bytes
    error: str | None = None  # as in `FileList`


class FileData(Data, kind=54):
    """The requested part of the file."""

    data: bytes = field(length=PART_LIMIT)


# -- supervisor and its processes


class Started(Message, kind=93):
    """First message of a worker or checker: it is ready."""


class Fork(Message, kind=40):
    """Supervisor to zygote: fork a worker for the attached socket."""


class Checkpoint(Message, kind=43):
    """Supervisor to worker: fork a frozen copy for the attached socket."""


class Forked(Message, kind=41):
    """Answer to `Fork` or `Checkpoint`."""

    error: str | None = field(length=40)  # why the fork failed: ``threads``, ``hooks`` or the name of an errno


class Warm(Message, kind=42):
    """Zygote to supervisor: the modules to preload are imported."""


class Execute(Message, kind=94):
    """Supervisor to worker: execute code. The standard descriptors are attached."""

    run: int
    code: str = field(length=1 << 19)
    path: str | None  # folder of the session's packages
    script: Script | None = None


class RunReport(Message, kind=95):
    """Worker to supervisor: how a run ended."""

    run: int
    ok: bool
    changed: bool  # false if no variable can have changed
    left: bool  # whether the run may have left processes running
    exit_code: int = field(low=0, high=255)
    value: str | None  # text of the last expression's value
    error: RunError | None
    imported: tuple[str, ...] = field(items=MOST_NAMES, length=LONGEST_NAME)  # as in `RunResult`


class Check(Message, kind=70):
    """Supervisor to checker: check code, answered by `Verdict`."""

    code: str = field(length=1 << 19)
    options: SafetyOptions


class Verdict(Message, kind=96):
    """Checker to supervisor: whether code may run."""

    allowed: bool
    findings: tuple[Finding, ...] = field(items=MOST_LISTED)
    imports: tuple[str, ...] = field(items=MOST_IMPORTS, length=LONGEST_NAME)  # top-level modules that the code imports
    requirements: tuple[str, ...] = field(items=MOST_REQUIREMENTS)  # of its ``pip install`` commands


# -- server to installer


class InstallerMessage(Message):
    """Base class of messages to an installer, and of its answers."""

    request: int  # number of the request, which its answers repeat


class InstallLimits(Record):
    """Limits of installations. Sizes are in bytes."""

    offline: bool
    exclude_newer: str | None  # ignore releases after this date, or within this period
    build: bool  # build packages that have no wheel
    download: int
    size: int  # maximum size of the installed packages
    files: int
    cache_size: int


class InstallerHello(Message, kind=97):
    """First message to an installer, answered by `InstallerReady`."""

    version: int = field(low=VERSION, high=VERSION)
    ca_bundle: str = field(length=_ANY_LENGTH)  # certificates to trust, in PEM; empty for the system's
    limits: InstallLimits
    living: tuple[str, ...]  # ids of the sandboxes on the engine
    served: tuple[str, ...] = field(pattern=_ID)  # ids of this server's sandboxes with packages


class Sources(Record):
    """Where packages come from. URLs may contain credentials."""

    index_url: str | None
    extra_index_urls: tuple[str, ...]
    proxies: dict[str, str]  # value by name of an environment variable


class Install(InstallerMessage, kind=30):
    """Resolve and install, answered by `InstallProgress`, `Resolved` and, in any case, `InstallDone`."""

    sandbox: str = field(pattern=_ID)
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = field(items=100_000)
    before: dict[str, str]  # version by name of what the sandbox has
    is_open: bool  # packages may be fetched before they are approved
    sources: Sources


class Approved(InstallerMessage, kind=63):
    """Answer to `Resolved`."""

    refusal: str | None
    hashes: dict[str, tuple[str, ...]]  # permitted hashes of files, by line of a requirements file


class InstallCancel(InstallerMessage, kind=33):
    """Stop the installation. `InstallDone` still follows."""


class RemovePackages(InstallerMessage, kind=34):
    """Remove the packages of a sandbox, answered by `PackagesRemoved`."""

    sandbox: str = field(pattern=_ID)


class DescribeCache(InstallerMessage, kind=64):
    """Describe the cache, answered by `CacheContents`."""

    clear: bool  # clear it first


class OpenWheelhouse(InstallerMessage, kind=66):
    """Prepare for the operator's wheelhouse, answered by `Wheelhouse`."""

    digest: str = field(pattern="[0-9a-f]{64}")  # digest of its content


class Wheel(InstallerMessage, kind=67):
    """The next part of a file of the wheelhouse. The last one has no name, and is answered by `Wheelhouse`."""

    name: str
    data: str = field(length=_ANY_LENGTH)  # in base64


# -- installer to server


class InstallerReady(Message, kind=98):
    """The installer is ready."""

    held: tuple[str, ...] = field(pattern=_ID)  # sandboxes of this server that have packages in it
    memory: int | None = field(low=0, high=1 << 63)  # as that of `SupervisorReady`


class InstallProgress(InstallerMessage, kind=31):
    """What the installation is doing."""

    text: str


class Resolved(InstallerMessage, kind=62):
    """The result of resolving. Nothing of it is installed before it is `Approved`."""

    pins: dict[str, str]  # version by name


class InstallDone(InstallerMessage, kind=32):
    """The end of an installation."""

    sandbox: str = field(pattern=_ID)
    folder: str = field(default="", pattern=f"(sandboxes/{_ID}/[0-9a-f]{{16}})?")  # in the volume; empty if not needed
    packages: tuple[tuple[str, str], ...] = ()  # name and version of what is installed
    satisfied: tuple[tuple[str, str], ...] = ()  # name and version of each in the image
    replaced: tuple[str, ...] = ()  # names of packages that the image has in another version
    modules: dict[str, tuple[str, ...]] = field(default={}, items=1000)
    """Top-level modules by package name, of packages that the sandbox or the image has in another version."""
    notes: tuple[str, ...] = field(default=(), items=100)  # why packages are not in their newest version
    error: str | None = None  # why nothing was installed


class PackagesRemoved(InstallerMessage, kind=35):
    """Answer to `RemovePackages`."""

    sandbox: str = field(pattern=_ID)


class CacheContents(InstallerMessage, kind=65):
    """Contents of the cache of downloaded packages."""

    size: int = field(low=0)  # bytes
    packages: tuple[tuple[str, float], ...] = field(items=100_000)
    """Name of each, and the time of its last use in seconds since the epoch."""
    busy: int = field(low=0)  # caches that were not cleared, because an installation was using them


class Wheelhouse(InstallerMessage, kind=99):
    """Answer to `OpenWheelhouse` and the last `Wheel`."""

    wanted: bool  # whether its files are to be sent
