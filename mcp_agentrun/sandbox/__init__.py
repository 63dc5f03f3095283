"""One sandbox: a container with one living Python, from its start to its end."""

from .result import Cause, FileChange, Outcome, Output, Picture, Result, RunError, State
from .sandbox import Sandbox

__all__ = ["Cause", "FileChange", "Outcome", "Output", "Picture", "Result", "RunError", "Sandbox", "State"]
