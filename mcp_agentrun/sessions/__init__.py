"""The sandboxes of a server's clients: ownership, capacity, expiry."""

from ..sandbox.capacity import REFUSALS
from .ownership import NEW, STDIO, Caller, Lease
from .registry import Sessions

__all__ = ["NEW", "REFUSALS", "STDIO", "Caller", "Lease", "Sessions"]
