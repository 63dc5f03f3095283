"""Who owns which sandbox, for how long, and how many there may be."""

from .registry import NEW, REFUSALS, STDIO, Caller, Lease, Sessions

__all__ = ["NEW", "REFUSALS", "STDIO", "Caller", "Lease", "Sessions"]
