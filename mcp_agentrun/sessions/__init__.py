"""The sandboxes of a server's clients: who owns them, capacity, expiry."""

from ..sandbox.capacity import REFUSALS
from .registry import Sessions
from .session_store import NEW, STDIO, Caller, Lease

__all__ = ["NEW", "REFUSALS", "STDIO", "Caller", "Lease", "Sessions"]
