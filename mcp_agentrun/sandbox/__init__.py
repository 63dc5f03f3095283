"""Sandboxes: each a container with one living Python, from its start to its end."""

from ..packages.installed import Cache, Installed
from .facade import AsyncRuntime, AsyncSandbox, OnOutput, ReadFile
from .files import FileInfo, FilePage, Files, FileSource
from .housekeeping import CA_VARIABLES, Container, EngineStatus, Housekeeping, NetworkSettings, Stored
from .result import KEEPING_RESET, Cause, FileChange, Image, Outcome, Output, Result, RunError, State
from .script import Script

__all__ = [
    "CA_VARIABLES",
    "KEEPING_RESET",
    "AsyncRuntime",
    "AsyncSandbox",
    "Cache",
    "Cause",
    "Container",
    "EngineStatus",
    "FileChange",
    "FileInfo",
    "FilePage",
    "FileSource",
    "Files",
    "Housekeeping",
    "Image",
    "Installed",
    "NetworkSettings",
    "OnOutput",
    "Outcome",
    "Output",
    "ReadFile",
    "Result",
    "RunError",
    "Script",
    "State",
    "Stored",
]
