"""The process that checks code, and its replacement.

Nothing runs without a verdict. A checker that dies or takes too long is replaced, and its code is never run unchecked.
Each code is checked by itself; nothing is remembered from one to the next.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import Check, Finding, Message, SafetyOptions, Started, Verdict

from . import checker
from .events import Events
from .linux import forks, process_table
from .sockets import Peer

CHECK_SECONDS = 2.0  # maximum processor time of a check, after which the checker is killed and the code refused
LONGEST_SECONDS = 15.0  # the same in elapsed time, for busy machines and checkers that user code keeps stopping
START_SECONDS = 10.0  # additional time for a check that waits for a new checker
TRIES = 3  # number of checkers that may die for one code: threads that earlier code has left can kill them

_LIMIT = 1 << 20
_RETRY_SECONDS = 0.1


class _Checker:
    def __init__(self, pid: int, peer: Peer) -> None:
        self.pid = pid
        self.peer = peer
        self.is_ready = False


class _Check:
    """Code whose verdict is pending."""

    def __init__(self, code: str, on_verdict: Callable[[Verdict], None]) -> None:
        self.code = code
        self.on_verdict = on_verdict
        self.asked = False
        self.deaths = 0
        self.used_before = 0.0  # processor time that the checker had used when it was asked
        self.await_checker()

    def begin(self, pid: int) -> None:
        """Record that checker *pid* works on this."""
        now = time.monotonic()
        self.deadline, self.latest = now + CHECK_SECONDS, now + LONGEST_SECONDS
        self.used_before = process_table.cpu_seconds(pid)

    def await_checker(self) -> None:
        """Record that no checker works on this yet."""
        # When to check the time that it has taken, and when to give up.
        self.deadline = self.latest = time.monotonic() + CHECK_SECONDS + START_SECONDS


class Checkers:
    """The checker, which carries out one check at a time and is replaced if it ends.

    :param on_death: called when a checker has died during a check; returns whether that counts as one of `TRIES`.
    """

    def __init__(self, events: Events, on_death: Callable[[], bool]) -> None:
        self._events = events
        self._on_death = on_death
        self.options: SafetyOptions | None = None
        self._current: _Checker | None = None
        self._check: _Check | None = None
        self._retry_at = 0.0

    def begin(self) -> None:
        """Start the checker before the first code arrives."""
        self._current = self._start()

    @property
    def deadline(self) -> float:
        """When `keep_deadlines` has something to do."""
        due = self._check.deadline if self._check is not None else float("inf")
        return min(due, self._retry_at) if self._current is None else due

    def pids(self) -> set[int]:
        return set() if self._current is None else {self._current.pid}

    def check(self, code: str, on_verdict: Callable[[Verdict], None]) -> None:
        """Check *code*, and call *on_verdict* with the verdict."""
        self._check = _Check(code, on_verdict)
        self.step()

    def cancel(self) -> None:
        """Cancel the current check."""
        if self._check is not None:
            if self._check.asked:
                self._end(self._current)  # or it would answer the next check with this verdict
            self._check = None

    def step(self) -> None:
        """Do everything that is due and possible."""
        if self._current is None and time.monotonic() >= self._retry_at:
            self._current = self._start()
        current, check = self._current, self._check
        if current is None:
            return
        if check is not None and not check.asked:
            check.asked = True
            if current.is_ready:
                check.begin(current.pid)
            process_table.send_signal(current.pid, signal.SIGCONT)  # user code can have stopped it
            assert self.options is not None
            self._send(current, Check(code=check.code, options=self.options))

    def keep_deadlines(self, now: float) -> None:
        check = self._check
        if check is not None and now >= check.deadline:
            is_stopped = self._current is not None and process_table.is_stopped(self._current.pid)
            if self._current is not None and not is_stopped and now < check.latest:
                left = CHECK_SECONDS - process_table.cpu_seconds(self._current.pid) + check.used_before
                if left > 0:
                    check.deadline = min(now + left, check.latest)
                    return
            self._end(self._current)
            if self._check is check and not is_stopped:  # if user code has stopped it, another checker gets the time
                self._refuse(check, "This code could not be checked in time.", "Write it more simply, in parts.")

    def on_exit(self, pid: int) -> bool:
        """Record that process *pid* has ended; false if it was not a checker."""
        if self._current is None or self._current.pid != pid:
            return False
        self._lose(self._current)
        return True

    def _start(self) -> _Checker | None:
        try:
            pid, connection = forks.start_helper(checker.main)
        except OSError:  # user code has too many processes: tried again when some have ended
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return None
        new = _Checker(pid, Peer(connection, limit=_LIMIT))
        self._events.watch(new.peer, lambda: self._on_messages(new))
        return new

    def _send(self, to: _Checker, message: Message) -> None:
        to.peer.send(message)
        if to.peer.has_unsent:
            self._events.watch(to.peer, lambda: self._on_writable(to), write=True)

    def _on_writable(self, to: _Checker) -> None:
        to.peer.flush()
        if not to.peer.has_unsent:
            self._events.watch(to.peer, lambda: self._on_messages(to))

    def _on_messages(self, sender: _Checker) -> None:
        try:
            for message in sender.peer.receive():
                check = self._check if sender is self._current else None
                if isinstance(message, Started):
                    sender.is_ready = True
                    if check is not None and check.asked:
                        check.begin(sender.pid)
                elif isinstance(message, Verdict) and check is not None and check.asked:
                    self._decide(check, message)
                else:
                    raise ProtocolError("unexpected message")
        except ProtocolError:
            self._end(sender)
        if sender.peer.closed:
            self._end(sender)

    def _end(self, each: _Checker | None) -> None:
        """Kill *each*."""
        if each is not None:
            process_table.send_signal(each.pid, signal.SIGKILL)
            self._lose(each)

    def _lose(self, each: _Checker) -> None:
        self._events.close(each.peer)
        if each is not self._current:
            return
        self._current = None
        check = self._check
        if check is not None and check.asked:
            check.asked = False
            check.deaths += self._on_death()
            check.await_checker()
            if check.deaths >= TRIES:
                self._refuse(check, "The checker process ended while checking this code.", "Write it differently.")

    def _decide(self, check: _Check, verdict: Verdict) -> None:
        self._check = None
        check.on_verdict(verdict)

    def _refuse(self, check: _Check, reason: str, remedy: str) -> None:
        finding = Finding(rule="checker", line=0, column=0, reason=reason, remedy=remedy)
        self._decide(check, Verdict(allowed=False, findings=(finding,), imports=(), requirements=()))
