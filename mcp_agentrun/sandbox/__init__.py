"""Sandboxes: each a container with one living Python, from its start to its end."""

from ..packages.installed import Cache, Installed
from .arguments import OnOutput
from .copies import safe_path, save_copy
from .facade import AsyncRuntime, AsyncSandbox
from .files import FileInfo, FileName, FilePage, Files, FileSource, FileStat, OnlyIf
from .housekeeping import CA_VARIABLES, ContainerInfo, EngineStatus, Housekeeping, NetworkSettings, StorageItem
from .notes import (
    EXPIRED,
    FILES_SHOWN,
    MARK,
    answer_text,
    content_notes,
    describe,
    history_notes,
    install_notes,
    mime_type,
    run_notes,
    size_text,
)
from .observer import Event, FileDone, InstallDone, Refused, ResetDone, RunAccepted, RunDone, Timing
from .open_sandbox import OpenSandbox, ReadFile
from .result import KEEPING_RESET, Cause, FileChange, Image, Outcome, Output, Result, RunError, State
from .script import Script

__all__ = [
    "CA_VARIABLES",
    "EXPIRED",
    "FILES_SHOWN",
    "KEEPING_RESET",
    "MARK",
    "AsyncRuntime",
    "AsyncSandbox",
    "Cache",
    "Cause",
    "ContainerInfo",
    "EngineStatus",
    "Event",
    "FileChange",
    "FileDone",
    "FileInfo",
    "FileName",
    "FilePage",
    "FileSource",
    "FileStat",
    "Files",
    "Housekeeping",
    "Image",
    "InstallDone",
    "Installed",
    "NetworkSettings",
    "OnOutput",
    "OnlyIf",
    "OpenSandbox",
    "Outcome",
    "Output",
    "ReadFile",
    "Refused",
    "ResetDone",
    "Result",
    "RunAccepted",
    "RunDone",
    "RunError",
    "Script",
    "State",
    "StorageItem",
    "Timing",
    "answer_text",
    "content_notes",
    "describe",
    "history_notes",
    "install_notes",
    "mime_type",
    "run_notes",
    "safe_path",
    "save_copy",
    "size_text",
]
