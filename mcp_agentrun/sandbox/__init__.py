"""Sandboxes: each a container with one living Python, from its start to its end."""

from .facade import AsyncRuntime, AsyncSandbox, OnOutput, ReadFile
from .files import FileInfo, FilePage, Files, FileSource
from .result import Cause, FileChange, Image, Outcome, Output, Result, RunError, State
from .script import Script

__all__ = [
    "AsyncRuntime",
    "AsyncSandbox",
    "Cause",
    "FileChange",
    "FileInfo",
    "FilePage",
    "FileSource",
    "Files",
    "Image",
    "OnOutput",
    "Outcome",
    "Output",
    "ReadFile",
    "Result",
    "RunError",
    "Script",
    "State",
]
