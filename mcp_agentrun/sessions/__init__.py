"""The sandboxes of a server's clients: who owns them, capacity, expiry."""

from ..sandbox.capacity import REFUSALS
from .background_runs import BackgroundRun, RunStatus
from .expiry import SHORTEST_LIFETIME
from .manager import SessionManager
from .session_store import NEW, STDIO, Audit, Caller, Lease, SandboxInfo

__all__ = [
    "NEW",
    "REFUSALS",
    "SHORTEST_LIFETIME",
    "STDIO",
    "Audit",
    "BackgroundRun",
    "Caller",
    "Lease",
    "RunStatus",
    "SandboxInfo",
    "SessionManager",
]
