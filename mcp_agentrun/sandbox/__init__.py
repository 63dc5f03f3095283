"""One sandbox: a container with one living Python, from its start to its end."""

from .result import FileChange, Outcome, Output, Picture, Result, RunError, State
from .sandbox import ReadFile, Sandbox

__all__ = ["FileChange", "Outcome", "Output", "Picture", "ReadFile", "Result", "RunError", "Sandbox", "State"]
