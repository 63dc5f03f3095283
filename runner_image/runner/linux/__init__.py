"""The Linux calls that Python does not offer, by subject."""

from .forks import fork_sibling, start_helper, use_huge_pages
from .identity import boot_id, identity
from .limits import leave_room, no_more_processes, set_room, take_room, use_all_processors, user_processes
from .memory import Memory, anonymous_memory, prefer_as_victim
from .privileges import set_dumpable, set_name
from .process_table import children, cpu_seconds, is_alive, is_runnable, is_stopped, processes, reap, sweep, thread_count
