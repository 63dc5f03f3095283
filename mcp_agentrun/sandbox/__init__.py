"""One sandbox: a container with one living Python, from its start to its end."""

from .result import FileChange, Outcome, Output, Picture, Result, RunError, State
from .sandbox import Sandbox

__all__ = ["FileChange", "Outcome", "Output", "Picture", "Result", "RunError", "Sandbox", "State"]
