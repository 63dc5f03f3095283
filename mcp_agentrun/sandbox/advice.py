"""Explain in one line why something failed in the sandbox, and what to do instead. Pure: the rules are data.

Exceptions and output are hostile input: they are only searched, and quoted with escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    ECONNREFUSED,
    EFBIG,
    EHOSTUNREACH,
    EMFILE,
    ENETUNREACH,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOTTY,
    EPERM,
    EROFS,
)
from posixpath import basename
from typing import Literal

from ..settings import Settings
from .result import Cause, Outcome, RunError

__all__ = ["InstallAdvice", "NameKind", "advice_for"]

_LONGEST = 120
_SEARCHED = 1 << 14
_STARTERS = frozenset(("_execute_child", "_posix_spawn", "_execvpe"))
"""Functions of the standard library that start a program."""

_FOREIGN = (
    r"(?:/(?!(?:workspace|tmp|dev|proc|sys|etc|usr|lib\w*|s?bin|opt|run|var|packages|root)(?:/|$))\w"
    r"|/tmp/(?:in|out)puts?\b|/tmp/home/(?:Desktop|Documents|Downloads)\b|/opt/(?:data|ml)\b|/var/(?:data|task)\b"
    r"|~|[A-Za-z]:[\\/]|\\\\)"
)
"""Paths where other products or the user's machine have files, and the sandbox has none."""
_NOT_WRITABLE = r"/(?!workspace(?:/|$)|tmp(?:/|$)|dev/|proc/)"


@dataclass(frozen=True)
class _Failure:
    """A kind of failure. All given conditions must be met, but only one of `errnos` and `text`."""

    note: str
    """The explanation, with placeholders for `path`, limits and the like."""
    errnos: tuple[int, ...] = ()
    text: str | None = None
    """Pattern for an exception as ``Type: text``."""
    path: str | None = None
    """Pattern for the beginning of the path, which comes from the system error or from the group ``path`` of `text`."""
    starts: bool = False
    """Only if a program was being started."""
    offline: bool = False
    """Only if the sandbox has no network."""
    full: bool = False
    """Only if a resource is exhausted."""
    output: str | None = None
    """Pattern for the output of programs, or of code that catches exceptions and prints them."""


_NETWORK = "The sandbox has no network. Data must come with the code, packages with install_package."
_LISTENS = (
    "Nothing is listening at this address. localhost is the sandbox itself, and other machines can't be reached: start "
    "the server in this session, or do without it."
)
_NO_PROGRAM = "The program {path!r} is not installed, and system programs can't be added. {instead}"
_EXECUTED = (
    "Files in /workspace, /tmp and /dev/shm can't be executed or loaded as libraries. Run `sh script.sh` or "
    "`python script.py` instead."
)
_READ_ONLY = "Only /workspace, /tmp and /dev/shm can be written to."
_ELSEWHERE = "There is no {path!r} here. Files belong in /workspace: use {target!r}."
_DISPLAY = (
    "The sandbox has no display, so no window can be opened. Draw with matplotlib, whose figures are shown, or save a "
    "picture in /workspace."
)
_TERMINAL = "There is no terminal here, and stdin is empty: nobody can answer. Put the values into the code."
_PROCESSES = "The sandbox allows {pids} processes and threads at a time. End some before you start more."
_LIBRARY = "The system library {path} is missing, and system packages can't be added. {instead}"

_FAILURES = (
    _Failure(_NO_PROGRAM, (ENOENT,), path=r"[^/\s]+$", starts=True),
    _Failure(
        "{path!r} was taken for the name of one program. Pass a list of its name and arguments, or shell=True.",
        (ENOENT,),
        path=r"[^/\s]+\s",
        starts=True,
    ),
    _Failure(
        _NO_PROGRAM,
        text=r"^CalledProcessError: (?:.*?'(?P<path>[^\s'/]+).*exit status 127|127 (?P<path2>[^\s/]+))",
        output=r"^(?:/bin/)?(?:ba|da)?sh: (?:\d+|line \d+): (?:exec: )?(?P<path>[^\s:/]+): (?:command )?not found$",
    ),
    _Failure(_EXECUTED, (EACCES,), starts=True),
    _Failure(
        _EXECUTED,
        text=r"failed to map segment from shared object|^CalledProcessError: .*exit status 126",
        output=r"^(?:/bin/)?(?:ba|da)?sh: (?:\d+|line \d+): \S+/\S+: Permission denied$",
    ),
    _Failure(_LIBRARY, text=r"(?P<path>lib[\w.+-]+\.so[\w.]*): cannot open shared object file"),
    _Failure(
        _ELSEWHERE,
        (ENOENT,),
        path=_FOREIGN,
        text=r"(?:No such file or directory|[Nn]o files? found|non-existent directory|[Uu]nable to open|annot open)"
        r"[^/~\n]*(?<![\w.])(?P<path>(?:/|~/)[^'\"\n]+)"
        r"|(?:[Ff]ile|[Dd]irectory|[Ff]older) ['\"]?(?P<path2>(?:/|~/)[^'\"\n:]+?)['\"]? (?:does not exist|not found)",
        output=r"(?:cannot access '|can't cd to |cannot create |cannot open ')(?P<path>(?:/|~/)[^'\n:]+)"
        r"(?:$|'?: (?:No such file|Directory nonexistent))",
    ),
    _Failure(
        "The database's folder does not exist or can't be written to. Files belong in /workspace.",
        text=r"^OperationalError: unable to open database file",
    ),
    _Failure(_READ_ONLY, (EROFS,), text=r"[Rr]ead-only file ?system", output=r": Read-only file system$"),
    _Failure(
        _READ_ONLY,
        (EACCES,),
        path=_NOT_WRITABLE,
        output=r"cannot (?:create|touch|open) '?/(?!workspace|tmp|dev|proc)\S+: Permission denied$",
    ),
    _Failure(
        "{full}",
        (ENOSPC,),
        text=r"No space left|disk (?:is )?full|\d requested and \d+ written",
        full=True,
    ),
    _Failure(
        "A folder is full: /workspace holds {workspace}, /tmp {tmp}, /dev/shm {shm}. Delete some files.",
        output=r": No space left on device$",
    ),
    _Failure(
        _PROCESSES,
        (EAGAIN,),
        text=r"can't start new thread",
        full=True,
        output=r"^(?:/bin/)?(?:ba|da)?sh: (?:\d+: Cannot fork|fork: )",
    ),
    _Failure("The sandbox has {memory} of memory in all. Work on less data at once.", (ENOMEM,)),
    _Failure("A process may have {open_files} files open at a time. Close some.", (EMFILE,)),
    _Failure("A file may have at most {workspace}. Write less, or in several files.", (EFBIG,)),
    _Failure(
        _NETWORK,
        (ENETUNREACH, EHOSTUNREACH, EAFNOSUPPORT),
        text=r"name resolution|Name or service not known|(?i:could not (?:resolve|translate) host)|Failed to resolve '"
        r"|DNS (?:resolution|lookup|server)|ERR_NAME_NOT_RESOLVED|Network is unreachable",
        offline=True,
        output=r"Temporary failure in name resolution|Name or service not known|[Cc]ould not resolve host"
        r"|Failed to resolve '|Network is unreachable|unvalidated hostname",
    ),
    _Failure(_LISTENS, (ECONNREFUSED, EADDRNOTAVAIL), offline=True),
    _Failure(
        "The sandbox runs without privileges: root, other users' files, raw sockets and the system's settings are out "
        "of reach. Do without.",
        (EPERM,),
        output=r"^[\w-]+: .*Operation not permitted$|are you root\?$",
    ),
    _Failure(
        _DISPLAY,
        text=r"\$?\bDISPLAY\b|[Nn]o display\b|[Nn]oSuchDisplay|as 'headless' is currently running|[Nn]o available video"
        r" device|annot (?:connect to|open) (?:X |the )?(?:server|display)|Rebuild the library with Windows, GTK"
        r"|No module named '_?tkinter'|libtk\d",
        output=r"could not connect to display|cannot open display|Could not load the Qt platform plugin"
        r"|bad X server connection|X11: The DISPLAY",
    ),
    _Failure(
        "Nobody can answer input() here: stdin is empty. Put the values into the code.",
        text=r"^EOFError: EOF when reading a line",
    ),
    _Failure(
        _TERMINAL,
        (ENOTTY,),
        text=r"Inappropriate ioctl|could not find terminal|^BdbQuit:|not a (?:tty|terminal)",
    ),
)

_INSTEAD = {
    **dict.fromkeys(("pip", "pip3", "uv"), "Call `install_package`."),
    **dict.fromkeys(("apt", "apt-get", "conda", "mamba"), "For Python packages, call `install_package`."),
    **dict.fromkeys(("curl", "wget"), "There is no network either."),
    **dict.fromkeys(("convert", "magick"), "Use pillow."),
    **dict.fromkeys(("pdfinfo", "pdftotext"), 'Call `install_package("pypdf")`.'),
    "dot": "Draw graphs with networkx and matplotlib.",
    "ffmpeg": 'Call `install_package("imageio-ffmpeg")`, and start `imageio_ffmpeg.get_ffmpeg_exe()`.',
    "git": 'Call `install_package("dulwich")` for repositories in /workspace.',
    "libGL.so.1": 'For OpenCV, call `install_package("opencv-python-headless")`.',
    "sudo": "Root is out of reach.",
}
"""Alternatives to programs and libraries that the sandbox does not have."""
_ANOTHER = "Look for a Python package that does the same."

# Without a dot: if only a submodule is missing, the package is installed.
_MODULE = re.compile(r"^ModuleNotFoundError: No module named '(\w+)'")
_NAME = r"['\"`]?([A-Za-z][\w.-]*\w(?:\[[\w,.-]+\])?)"
_COMMAND = re.compile(r"(?:pip3?|conda|mamba) install (?:-\S+ )*" + _NAME)
_OPTIONAL = re.compile(r"(?:[Mm]issing optional dependency |[`'\"]Import )" + _NAME)
_PERHAPS = re.compile(
    rf"(?:(?:requires?|install|needs?) (?:the )?|features you requested: ){_NAME}"
    rf"|{_NAME}['\"`]?,? (?:package |library |module )?(?:is )?not (?:installed|available|found, please)"
)

NameKind = Literal["module", "package", "perhaps"]
"""What a name refers to: a module, a package, or a package only if a well-known one has that name."""
InstallAdvice = Callable[[str, NameKind], "str | None"]


def advice_for(
    outcome: Outcome,
    error: RunError | None,
    printed: bytes,
    settings: Settings,
    advise: InstallAdvice | None,
) -> str | None:
    """Return an explanation of why something failed in a run, or None if there is nothing to explain.

    :param printed: the end of the output, of which the last 16 KiB are searched.
    :param advise: returns how to install something; None if nothing can be installed.
    """
    causes = () if error is None else error.causes
    for number, cause in enumerate(causes):
        note = _refusal(cause, error.full if error else (), settings) or _package_advice(causes[number:], advise)
        if note is not None:
            return note
    return _from_output(printed, settings) if outcome in ("ok", "error", "crashed") else None


def _refusal(cause: Cause, full: Sequence[str], settings: Settings) -> str | None:
    line = f"{cause.type}: {cause.text}"
    for failure in _FAILURES:
        if (failure.offline and settings.access.network != "none") or (
            failure.starts and cause.function not in _STARTERS
        ):
            continue
        match = None if failure.text is None else re.search(failure.text, line)
        if (match is None and cause.errno not in failure.errnos) or (failure.full and not full):
            continue
        path = cause.path or (_path_of(match) if match else None)
        if failure.path is None or (path is not None and re.match(failure.path, path)):
            return _filled(failure, path, full, settings)
    return None


def _from_output(printed: bytes, settings: Settings) -> str | None:
    text = printed[-_SEARCHED:].decode("utf-8", "replace")
    for failure in _FAILURES:
        if failure.output is None or (failure.offline and settings.access.network != "none"):
            continue
        for match in re.finditer(failure.output, text, re.MULTILINE):
            path = _path_of(match)
            if failure.path is None or path is None or re.match(failure.path, path):
                return _filled(failure, path, (), settings)
    return None


def _path_of(match: re.Match[str]) -> str | None:
    return next((text for name, text in match.groupdict().items() if name.startswith("path") and text), None)


def _filled(failure: _Failure, path: str | None, full: Sequence[str], settings: Settings) -> str:
    sizes = {
        "/workspace": settings.limits.workspace_size,
        "/tmp": settings.limits.tmp_size,  # noqa: S108
        "/dev/shm": settings.limits.shm_size,  # noqa: S108
    }
    most = f"{settings.limits.inodes} files and folders at most. Delete some."
    folders = " ".join(f"{each} is full: it holds {_size(sizes[each])} and {most}" for each in full if each in sizes)
    path = (path or "").strip()[:_LONGEST]
    name = basename(path.replace("\\", "/").rstrip("/"))
    return failure.note.format(
        path=path,
        target=f"/workspace/{name}" if "." in name else "/workspace",
        instead=_INSTEAD.get(path, _ANOTHER),
        full=folders,
        pids=settings.limits.pids,
        open_files=settings.limits.open_files,
        memory=_size(settings.limits.memory),
        workspace=_size(settings.limits.workspace_size),
        tmp=_size(settings.limits.tmp_size),
        shm=_size(settings.limits.shm_size),
    )


def _package_advice(causes: Sequence[Cause], advise: InstallAdvice | None) -> str | None:
    """Return advice if the first of *causes* is about a package. Names in the others are more precise."""
    if advise is None:
        return None
    line = f"{causes[0].type}: {causes[0].text}"
    if match := _MODULE.match(line):
        return advise(match[1], "module")
    if match := _COMMAND.search(line):
        return advise(match[1], "package")
    optional = _OPTIONAL.search(line)
    behind = (_MODULE.match(f"{cause.type}: {cause.text}") for cause in causes[1:]) if optional else ()
    if module := next(filter(None, behind), None):
        return advise(module[1], "module")
    if optional:
        return advise(optional[1], "package")
    names = (match[1] or match[2] for match in _PERHAPS.finditer(line))
    return next(filter(None, (advise(name, "perhaps") for name in names)), None)


def _size(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
