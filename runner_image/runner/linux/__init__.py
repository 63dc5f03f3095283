"""The Linux calls that Python does not offer, by subject."""

from .forks import fork_sibling, start_helper, use_huge_pages
from .identity import boot_id, identity
from .limits import (
    leave_room,
    no_more_processes,
    set_room,
    take_room,
    use_all_processors,
    user_processes,
)
from .memory import Memory, anonymous_memory, prefer_as_victim
from .privileges import set_dumpable, set_name
from .process_table import (
    children,
    cpu_seconds,
    is_alive,
    is_runnable,
    is_stopped,
    processes,
    reap,
    sweep,
    thread_count,
)

__all__ = [
    "Memory",
    "anonymous_memory",
    "boot_id",
    "children",
    "cpu_seconds",
    "fork_sibling",
    "identity",
    "is_alive",
    "is_runnable",
    "is_stopped",
    "leave_room",
    "no_more_processes",
    "prefer_as_victim",
    "processes",
    "reap",
    "set_dumpable",
    "set_name",
    "set_room",
    "start_helper",
    "sweep",
    "take_room",
    "thread_count",
    "use_all_processors",
    "use_huge_pages",
    "user_processes",
]
