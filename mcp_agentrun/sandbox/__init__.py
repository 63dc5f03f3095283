"""One sandbox: a container with one living Python, from its start to its end."""

from .files import FileInfo, FilePage, Files, FileSource
from .result import Cause, FileChange, Outcome, Output, Picture, Result, RunError, State
from .sandbox import ReadFile, Sandbox

__all__ = [
    "Cause",
    "FileChange",
    "FileInfo",
    "FilePage",
    "FileSource",
    "Files",
    "Outcome",
    "Output",
    "Picture",
    "ReadFile",
    "Result",
    "RunError",
    "Sandbox",
    "State",
]
