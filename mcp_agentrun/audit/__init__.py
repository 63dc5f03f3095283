"""The audit trail: one JSON line for each call of a sandbox."""

from .interface import Interface, current_interface, through
from .records import KINDS, Record, record_of, refused_request
from .trail import Trail, trail_files

__all__ = [
    "KINDS",
    "Interface",
    "Record",
    "Trail",
    "current_interface",
    "record_of",
    "refused_request",
    "through",
    "trail_files",
]
