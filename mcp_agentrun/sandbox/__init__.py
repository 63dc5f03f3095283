"""Sandboxes: each a container with one living Python, from its start to its end."""

from .arguments import OnOutput
from .facade import AsyncRuntime, AsyncSandbox
from .files import FileInfo, FileName, FilePage, Files, FileSource
from .open_sandbox import OpenSandbox, ReadFile
from .result import Cause, FileChange, Image, Outcome, Output, Result, RunError, State
from .script import Script

__all__ = [
    "AsyncRuntime",
    "AsyncSandbox",
    "Cause",
    "FileChange",
    "FileInfo",
    "FileName",
    "FilePage",
    "FileSource",
    "Files",
    "Image",
    "OnOutput",
    "OpenSandbox",
    "Outcome",
    "Output",
    "ReadFile",
    "Result",
    "RunError",
    "Script",
    "State",
]
