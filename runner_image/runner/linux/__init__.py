"""The Linux calls that Python does not offer, by subject."""

from .forks import fork_sibling, start_helper, use_huge_pages
from .identity import boot_id, file_identity
from .limits import (
    is_process_limit_reached,
    lift_process_limit,
    limit_user_processes,
    set_process_limit,
    use_all_processors,
    user_process_limit,
)
from .memory import Memory, anonymous_memory, set_oom_score
from .privileges import set_dumpable, set_name
from .process_table import (
    children,
    cpu_seconds,
    is_alive,
    is_runnable,
    is_stopped,
    processes,
    reap,
    send_signal,
    sweep,
    thread_count,
)

# fmt: off
__all__ = [
    "Memory", "anonymous_memory", "boot_id", "children", "cpu_seconds", "file_identity", "fork_sibling", "is_alive",
    "is_process_limit_reached", "is_runnable", "is_stopped", "lift_process_limit", "limit_user_processes", "processes",
    "reap", "send_signal", "set_dumpable", "set_name", "set_oom_score", "set_process_limit", "start_helper", "sweep",
    "thread_count", "use_all_processors", "use_huge_pages", "user_process_limit",
]
# fmt: on
