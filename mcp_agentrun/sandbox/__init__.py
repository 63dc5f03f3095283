"""One sandbox: a container with one living Python, from its start to its end."""

from .result import Cause, FileChange, Outcome, Output, Picture, Result, RunError, State
from .sandbox import ReadFile, Sandbox

__all__ = ["Cause", "FileChange", "Outcome", "Output", "Picture", "ReadFile", "Result", "RunError", "Sandbox", "State"]
