"""One sandbox: a container with one living Python, from its start to its end."""

from .result import Outcome, Output, Result, RunError, State
from .sandbox import Sandbox

__all__ = ["Outcome", "Output", "Result", "RunError", "Sandbox", "State"]
