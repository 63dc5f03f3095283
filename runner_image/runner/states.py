"""The states of a session and of its workers, and what leads from one to the next.

Of the session (`runner.runs`), where every arrow to IDLE sends the answer::

    IDLE ──Run──▶ WAITING ──allowed, and a worker waits──▶ RUNNING ──RunReport──▶ IDLE: kept
     │               │                                        │
     │               └──blocked, or cancelled──▶ IDLE: kept   └──worker ended──▶ RECOVERING
     │
     │            RECOVERING ──a checkpoint waits──▶ PROBING ──RunReport──▶ IDLE: restored
     │                │  ▲                              │
     │                │  └──────── worker ended ────────┘
     │                └──only a fresh worker waits──▶ IDLE: lost, or restored where there was nothing to lose
     │
     └──Reset──▶ RESETTING ──wiped, and a fresh worker waits──▶ IDLE

Of a worker (`runner.workers`), which waits on a connection, runs without one, and connects again to report::

    zygote ──Fork──▶ WAITING ──Execute──▶ RUNNING      A Checkpoint to a waiting worker makes another one that waits.
                        ▲                    │
                        └─────RunReport──────┘         From either state: ──its process ends, or is killed──▶ ENDED
"""

import enum


class SessionState(enum.Enum):
    """What the session is doing."""

    IDLE = enum.auto()
    WAITING = enum.auto()  # a run is checked, has its missing packages installed, or waits for its worker
    RUNNING = enum.auto()
    RECOVERING = enum.auto()  # the worker ended in its run, whose result waits for what happens to the variables
    PROBING = enum.auto()  # a restored checkpoint executes an empty run, to show that it is alive
    RESETTING = enum.auto()


class WorkerState(enum.Enum):
    """What a worker is doing."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()
