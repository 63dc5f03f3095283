"""The messages that server, supervisor, workers, checkers and installers exchange: one class for each kind.

Whatever arrives is validated, field by field, before anybody sees it: see `mcp_agentrun.wire.records`. Strings have at
most 65,536 characters and collections at most 10,000 items, unless a field says otherwise.

Standard library only, as the runner's image has a copy.
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

VERSION = 4  # of the protocol. A mismatch means that image and server are of different releases
Outcome = Literal["ok", "error", "blocked", "timeout", "memory_limit", "crashed", "cancelled"]  # how a run ended
State = Literal["kept", "restored", "lost"]  # what happened to the session's variables, from best to worst
Resource = Literal["/workspace", "/tmp", "/dev/shm", "pids"]  # noqa: S108
"""What can be full: a folder, or ``pids`` for processes and threads."""

WRITABLE = {"/workspace": 0o700, "/tmp": 0o1777, "/dev/shm": 0o1777}  # noqa: S108
"""The folders of a container that user code may write to, and their modes."""

PIDS = "pids"

PROBE = 0
"""Number of the empty run by which a restored checkpoint shows that it is alive. Runs of user code count from 1."""

MOST_NAMES, LONGEST_NAME = 500, 100  # modules that a report may name as imported, and characters of a name
MOST_IMPORTS = 10_000  # modules that a verdict may name as imported by the code
MOST_REQUIREMENTS = 50  # packages that code may ask for by ``pip install``
MOST_CAUSES = 10  # exceptions that a report may name as what ended a run
LONGEST_PATH = 4096  # characters of a file's path
MOST_LISTED = 1000  # files that an answer may list
PICTURE_LIMIT = 8 << 20  # bytes of the pictures of one run
PART_LIMIT = 1 << 20  # bytes of a file that are read at a time
INPUT_LIMIT = 1 << 16  # bytes of standard input that are sent at a time

FILE_PATH = r"(?:(?!\.{1,2}(?:/|\Z))[^/\0\ud800-\udc7f\udd00-\udfff]+(?:/(?!\Z)|\Z))+"
"""Pattern of a path below the folder that it is relative to. Bytes that are not UTF-8 are escaped as `os.fsdecode`
does it."""

_ID = "[0-9a-f]{32}"
_ANY_LENGTH = MAX_FRAME

_to_json = json.JSONEncoder(separators=(",", ":"), default=vars).encode  # user code may replace the module's functions
_from_json = json.JSONDecoder().decode
_classes: dict[int, type[Message]] = {}


class Message(Record):
    """Base of the messages; those without fields have an empty payload.

    :param kind: the number that stands for the class on the wire. Never reuse one.
    """

    if TYPE_CHECKING:
        kind: ClassVar[int]

    def __init_subclass__(cls, *, kind: int | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            _classes[kind] = cls

    def payload(self) -> bytes:
        """The payload of the message's frame: JSON, in ASCII so that lone surrogates survive."""
        return _to_json(vars(self)).encode("ascii") if self._hints else b""

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """The message whose frame has that *payload*.

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
    """Base of the messages that carry raw bytes alone."""

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
    """The frame of *message*.

    :raises ProtocolError: it is larger than `MAX_FRAME`.
    """
    return encode_frame(message.kind, message.payload())


def decode(frame: Frame) -> Message:
    """The message of *frame*.

    :raises ProtocolError: it is of no known kind, or malformed.
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
    """Turns a byte stream, cut anywhere, back into messages: `feed` it and iterate."""

    def __iter__(self) -> Iterator[Message]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return map(decode, super().__iter__())


# -- both ways


class Ping(Message, kind=3):
    """Server: are you there?"""


class Pong(Message, kind=4):
    """Answer to `Ping`."""


# -- server to supervisor


class SafetyOptions(Record):
    """How code is checked: the arguments of `mcp_agentrun.safety.check`."""

    profile: Literal["strict", "standard", "off"]
    off: tuple[str, ...]  # ids of rules that don't apply
    warn: bool  # report findings, but run the code
    rules: str = field(length=_ANY_LENGTH)  # the operator's own rules, in TOML


class SupervisorHello(Message, kind=90):
    """First message to a supervisor, answered by `SupervisorReady`."""

    version: int = field(low=VERSION, high=VERSION)
    data: tuple[str, ...]  # paths of the operator's folders in the container
    preload: tuple[str, ...]  # modules that workers have imported before they run code
    output_keep: int = field(low=0)  # bytes of a run's output that are forwarded
    checkpoints: bool
    installs: bool  # packages that code asks for by ``pip install`` are reported in `MissingPackages`
    auto_install: bool  # so are modules that code imports and that are missing
    user_pids: int = field(low=1)  # processes and threads that user code may have
    safety: SafetyOptions


class Script(Record):
    """How code is executed that is a program: as ``python`` does, and not as a notebook's cell."""

    filename: str = field(length=LONGEST_PATH)  # its name in tracebacks
    argv: tuple[str, ...] = field(length=1 << 17)
    is_file: bool  # `filename` is the path of a file in the container: the program's ``__file__``
    has_stdin: bool  # its standard input follows in `Input`; otherwise it is empty


class Run(Message, kind=10):
    """Execute code, answered by `RunResult`."""

    run: int = field(low=1)
    code: str = field(length=1 << 19)
    timeout: float = field(low=0, high=1e9)  # seconds
    path: str | None  # folder of the session's packages
    no_preload: bool
    """The packages replace some of the image's, so that a worker's first run must find none of these imported."""
    stream: bool = False  # forward all output, not only its first `SupervisorHello.output_keep` bytes
    script: Script | None = None


class Input(Data, kind=16):
    """The next part of the current run's standard input, answered by `InputTaken`. An empty one is the end, and is not
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
    """Replace the worker by a fresh one, answered by `ResetDone`."""

    keep_files: bool  # leave the workspace and temporary files alone
    no_preload: bool  # as in `Run`


class ListFiles(Message, kind=55):
    """List files of the workspace, answered by `FileList`, also in the middle of a run."""

    folder: str = field(length=LONGEST_PATH)  # files below this folder; empty for the workspace
    after: str = field(length=LONGEST_PATH)  # files whose paths come after this one


class WriteFile(Message, kind=80):
    """Begin to write a file. Answered by `Written`, as are the next two; an error ends the writing, and nothing of the
    file stays.
    """

    path: str = field(length=LONGEST_PATH)


class WriteData(Data, kind=81):
    """Append to the file that is being written."""

    data: bytes = field(length=PART_LIMIT)


class WriteEnd(Message, kind=82):
    """The end of the file that is being written."""

    keep: bool  # it is complete and takes its place. Otherwise it is discarded


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
    """A worker waits for code."""

    distributions: tuple[tuple[str, str], ...] = field(length=1000)  # name and version of what the image has
    boot: str | None  # the kernel's boot id
    data: dict[str, tuple[int, int] | None] = field(low=0, high=1 << 64)
    """Device and inode of the operator's folders, by path in the container; None for one that is missing."""


class InputTaken(Message, kind=17):
    """The last `Input` has been written to the run's standard input: send the next one."""


class OutputChunk(Data, kind=12):
    """What the current run wrote to stdout and stderr."""


class OutputTail(Data, kind=15):
    """The end of an output too large to be forwarded. What is between it and the last `OutputChunk` was discarded."""

    data: bytes = field(length=1 << 16)


class LateOutput(Data, kind=14):
    """What earlier runs wrote since the last run ended."""

    data: bytes = field(length=1 << 16)


class Picture(Message, kind=50):
    """A picture of the current run, whose bytes follow in `PictureData`. Workers send it to the supervisor, too."""

    type: Literal["image/png"]
    size: int = field(low=1, high=PICTURE_LIMIT)  # bytes


class PictureData(Data, kind=51):
    """The next part of the last `Picture`."""


class Cause(Record):
    """An exception that ended a run, or is behind one that did."""

    type: str
    text: str
    errno: int | None  # of a system error, by Linux's numbers
    path: str | None  # the file that a system error names
    function: str | None  # the innermost function in which it was raised


class RunError(Record):
    """The exception that ended a run."""

    type: str
    message: str
    line: int | None  # line of the code where it was raised, if known
    causes: tuple[Cause, ...] = field(items=MOST_CAUSES)  # the exception itself, and those behind it
    full: tuple[Resource, ...] = field(items=4)  # what had no room left


class Finding(Record):
    """An objection of the static check: see `mcp_agentrun.safety.Finding`."""

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
    exit_code: int | None = field(low=-255, high=255)
    """Negative for the signal that ended the worker; None where nothing was run."""
    error: RunError | None
    value: str | None  # text of the last expression's value
    imported: tuple[str, ...] | None = field(items=MOST_NAMES, length=LONGEST_NAME)
    """Top-level modules of the packages that the interpreter has loaded; None if unknown."""
    written: int = field(low=0)  # bytes of output, whether they were forwarded or not
    files: tuple[FileChange, ...] = field(items=MOST_LISTED)
    more_files: int = field(low=0)  # how many more were created or changed
    ended: int = field(low=0)  # processes that the run had left running, and that were ended with it
    findings: tuple[Finding, ...] = field(items=MOST_LISTED)
    state: State  # what the end of the run did to the variables
    since: State  # what had happened to them between the last result and this run
    unprotected: str | None
    """Why there is no checkpoint of them: ``memory``, ``threads``, ``hooks``, ``died`` or the name of an errno."""


class MissingPackages(Message, kind=60):
    """A run needs packages, and waits for `Proceed`."""

    run: int
    names: tuple[str, ...] = field(items=50, length=LONGEST_NAME)  # modules that it imports and that can't be found
    requirements: tuple[str, ...] = field(items=MOST_REQUIREMENTS)  # what it asks for by ``pip install``


class ResetDone(Message, kind=21):
    """Answer to `Reset`."""


class FileList(Message, kind=56):
    """Answer to `ListFiles`."""

    files: tuple[FileEntry, ...] = field(default=(), items=MOST_LISTED)
    more: int = field(default=0, low=0)  # how many more there are
    is_cut: bool = False  # there are too many files for all of them to be listed
    error: str | None = None  # why they can't be listed: one of `mcp_agentrun.errors.FileReason`


class Written(Message, kind=83):
    """Answer to `WriteFile`, `WriteData` and `WriteEnd`."""

    error: str | None = None  # as in `FileList`
    changed: int = field(default=0, low=0)
    """Time of the file's last change, in nanoseconds since the epoch, after its end."""


class Removed(Message, kind=85):
    """Answer to `RemoveFile`."""

    error: str | None  # as in `FileList`


class FilePart(Message, kind=53):
    """Answer to `ReadFile`; unless there is an error or no data, `FileData` follows."""

    size: int = field(default=0, low=0)  # bytes of the whole file
    stamp: str = ""  # differs when the file has changed
    length: int = field(default=0, low=0, high=PART_LIMIT)  # bytes of data that follow
    error: str | None = None  # as in `FileList`


class FileData(Data, kind=54):
    """The part of the file that was asked for."""

    data: bytes = field(length=PART_LIMIT)


# -- supervisor and its processes


class Started(Message, kind=93):
    """First message of a worker or checker: it is ready."""


class Fork(Message, kind=40):
    """Supervisor to zygote: fork a worker that serves the socket sent along."""


class Checkpoint(Message, kind=43):
    """Supervisor to worker: fork a frozen copy of yourself that serves the socket sent along."""


class Forked(Message, kind=41):
    """Answer to `Fork` or `Checkpoint`."""

    error: str | None = field(length=40)  # why there is no fork: ``threads``, ``hooks`` or the name of an errno


class Warm(Message, kind=42):
    """Zygote to supervisor: the modules to preload are imported."""


class Execute(Message, kind=94):
    """Supervisor to worker: execute code. The standard descriptors are sent along."""

    run: int
    code: str = field(length=1 << 19)
    path: str | None  # folder of the session's packages
    script: Script | None = None


class RunReport(Message, kind=95):
    """Worker to supervisor: how a run ended."""

    run: int
    ok: bool
    changed: bool  # false if the session is certainly as it was before
    left: bool  # whether the run may have left processes running
    exit_code: int = field(low=0, high=255)
    value: str | None  # text of the last expression's value
    error: RunError | None
    imported: tuple[str, ...] = field(items=MOST_NAMES, length=LONGEST_NAME)  # as in `RunResult`


class Check(Message, kind=70):
    """Supervisor to checker: judge code, answered by `Verdict`."""

    code: str = field(length=1 << 19)
    options: SafetyOptions


class Verdict(Message, kind=96):
    """Checker to supervisor: whether code may run."""

    allowed: bool
    findings: tuple[Finding, ...] = field(items=MOST_LISTED)
    imports: tuple[str, ...] = field(items=MOST_IMPORTS, length=LONGEST_NAME)  # top-level modules that the code imports
    requirements: tuple[str, ...] = field(items=MOST_REQUIREMENTS)  # what it asks for by ``pip install``


# -- server to installer


class InstallerMessage(Message):
    """Base of what is sent to an installer, and of its answers."""

    request: int  # number of the request, which answers repeat


class InstallLimits(Record):
    """What installations may take; sizes in bytes."""

    offline: bool
    exclude_newer: str | None  # ignore releases after this date, or younger than this
    build: bool  # build packages that have no wheel
    download: int
    size: int  # of what is installed
    files: int
    cache_size: int


class InstallerHello(Message, kind=97):
    """First message to an installer, answered by `InstallerReady`."""

    version: int = field(low=VERSION, high=VERSION)
    ca_bundle: str = field(length=_ANY_LENGTH)  # certificates to trust, in PEM; empty for the system's
    limits: InstallLimits
    living: tuple[str, ...]  # sandboxes that the engine has
    served: tuple[str, ...] = field(pattern=_ID)  # sandboxes of this server that have packages


class Sources(Record):
    """Where packages come from. Addresses may have credentials in them."""

    index_url: str | None
    extra_index_urls: tuple[str, ...]
    proxies: dict[str, str]  # value by name of an environment variable


class Install(InstallerMessage, kind=30):
    """Resolve and install, answered by `InstallProgress`, `Resolved` and, in any case, `InstallDone`."""

    sandbox: str = field(pattern=_ID)
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = field(items=100_000)
    before: dict[str, str]  # version by name of what the sandbox has
    is_open: bool  # what is resolved may be fetched before it is approved
    sources: Sources


class Approved(InstallerMessage, kind=63):
    """Answer to `Resolved`."""

    refusal: str | None
    hashes: dict[str, tuple[str, ...]]  # hashes that files must have, by line of a requirements file


class InstallCancel(InstallerMessage, kind=33):
    """Stop the installation. `InstallDone` still follows."""


class RemovePackages(InstallerMessage, kind=34):
    """Remove what was installed for a sandbox, answered by `PackagesRemoved`."""

    sandbox: str = field(pattern=_ID)


class DescribeCache(InstallerMessage, kind=64):
    """Answered by `CacheContents`."""

    clear: bool  # remove all that is in it first


class OpenWheelhouse(InstallerMessage, kind=66):
    """Have the operator's wheelhouse ready, answered by `Wheelhouse`."""

    digest: str = field(pattern="[0-9a-f]{64}")  # of its content


class Wheel(InstallerMessage, kind=67):
    """The next part of a file of the wheelhouse. One without a name is the last, answered by `Wheelhouse`."""

    name: str
    data: str = field(length=_ANY_LENGTH)  # in base64


# -- installer to server


class InstallerReady(Message, kind=98):
    """The volume of packages is usable."""

    held: tuple[str, ...] = field(pattern=_ID)  # those of the sandboxes served that have packages there


class InstallProgress(InstallerMessage, kind=31):
    """What the installation is doing."""

    text: str


class Resolved(InstallerMessage, kind=62):
    """All that would be installed, before anybody sees any of it. Answered by `Approved`."""

    pins: dict[str, str]  # version by name


class InstallDone(InstallerMessage, kind=32):
    """The end of an installation."""

    sandbox: str = field(pattern=_ID)
    folder: str = field(default="", pattern=f"(sandboxes/{_ID}/[0-9a-f]{{16}})?")
    """Of the packages, below the volume; empty if the image has them all."""
    packages: tuple[tuple[str, str], ...] = ()  # name and version of what is installed
    satisfied: tuple[tuple[str, str], ...] = ()  # name and version of what the image has
    replaced: tuple[str, ...] = ()  # names of what the image has in another version
    modules: dict[str, tuple[str, ...]] = field(default={}, items=1000)
    """Top-level modules by name of what the sandbox or the image has in another version."""
    notes: tuple[str, ...] = field(default=(), items=100)
    """What keeps something from being installed in its newest version."""
    error: str | None = None  # why nothing was installed


class PackagesRemoved(InstallerMessage, kind=35):
    """Answer to `RemovePackages`."""

    sandbox: str = field(pattern=_ID)


class CacheContents(InstallerMessage, kind=65):
    """What the cache of downloaded packages holds."""

    size: int = field(low=0)  # bytes
    packages: tuple[tuple[str, float], ...] = field(items=100_000)
    """Name of each, and the time of its last use in seconds since the epoch."""
    busy: int = field(low=0)  # parts that could not be cleared, because an installation was using them


class Wheelhouse(InstallerMessage, kind=99):
    """Answer to `OpenWheelhouse` and the last `Wheel`."""

    wanted: bool  # whether its files are to be sent
