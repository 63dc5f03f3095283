"""PID 1 of a sandbox: owns the stream to the server, the processes, and every deadline. It never runs user code.

Everything happens in one loop over one epoll. Event handlers only record what happened; `Supervisor._step` then does
whatever has become possible, in an order that does not depend on the order of events. The states of the session and of
its workers, and what leads from one to the next, are in `runner.states`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError

from . import missing, pod
from .changes import Changes
from .checkers import Checkers
from .events import Events
from .files import Files
from .linux import identity, limits, privileges, process_table
from .linux.memory import Memory
from .memory_watch import MemoryWatch
from .output import Output
from .prelude import NoReturn
from .preparation import Preparation
from .reset import Reset
from .runs import Runs
from .sockets import HostStream
from .stdin import Stdin
from .usage import Usage
from .workers import Worker, Workers

HOST_SILENCE = 120.0  # seconds of silence after which the server, which pings every 15, is considered dead


class Supervisor:
    """PID 1. Construct, then `serve`."""

    def __init__(self) -> None:
        self._events = Events()
        self._host = HostStream()
        self._last_received_at = time.monotonic()
        self._output = Output(self._events, self._host)
        self._changes = Changes()
        self._memory = memory = Memory()
        self._files = Files(self._host, self._changes, memory)
        self._workers = Workers(self._events)
        self._checkers = Checkers(self._events, self._workers.pause)
        self._preparation = Preparation(self._host, self._workers, self._checkers)
        self._stdin = Stdin(self._events, self._host)
        self._runs = Runs(
            self._host,
            self._output,
            self._stdin,
            self._workers,
            self._preparation,
            self._changes,
            MemoryWatch(memory, self._workers),
            Usage(),
            self._runner_pids,
        )
        self._reset: Reset | None = None
        self._data: tuple[str, ...] = ()
        self._is_announced = False

    def serve(self) -> NoReturn:
        self._listen_for_children()
        self._checkers.begin()
        self._events.watch(self._host.readable_fd, self._on_host)
        while True:
            self._step()
            self._flush()
            self._events.wait(self._seconds_to_deadline())
            self._keep_deadlines()
            if self._host.ended:
                os._exit(0)

    def _flush(self) -> None:
        self._host.flush()
        if self._host.has_unsent:
            self._events.watch(self._host.writable_fd, self._host.flush, write=True)
        else:
            self._events.forget(self._host.writable_fd)

    # -- events

    def _listen_for_children(self) -> None:
        """Turn SIGCHLD into an event. User code can send it too, which is harmless."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

        def on_child() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(read, 4096)
            self._on_exits(process_table.reap())

        self._events.watch(read, on_child)

    def _on_host(self) -> None:
        for message in self._host.receive():
            self._last_received_at = time.monotonic()
            self._on_message(message)

    def _on_message(self, message: messages.Message) -> None:
        match message:
            case messages.Run():
                self._runs.receive(message)
            case messages.Proceed():
                self._runs.proceed(message)
            case messages.Cancel():
                self._runs.cancel(message.run)
            case messages.Reset():
                self._runs.begin_reset(no_preload=message.no_preload)
                self._reset = Reset(keep_files=message.keep_files)
            case messages.Input():
                self._stdin.receive(message.data)
            case messages.Ping():
                self._host.send(messages.Pong())
            case messages.SupervisorHello():
                self._on_hello(message)
            case _:
                self._files.handle(message)

    def _on_hello(self, hello: messages.SupervisorHello) -> None:
        self._data = hello.data
        self._output.keep = hello.output_keep
        limits.user_process_limit[0] = hello.user_pids
        self._runs.makes_checkpoints = hello.checkpoints
        self._preparation.configure(hello)
        self._checkers.options = hello.safety
        self._workers.begin(hello.preload)

    # -- deadlines

    def _seconds_to_deadline(self) -> float:
        """Seconds until the next deadline, which `_keep_deadlines` keeps."""
        now = time.monotonic()
        due = min(
            self._last_received_at + HOST_SILENCE,
            self._output.adjust(now),
            self._workers.deadline,
            self._checkers.deadline,
            self._runs.deadline(now),
            self._reset.deadline if self._reset is not None else float("inf"),
        )
        return max(0.0, due - now)

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        if now - self._last_received_at > HOST_SILENCE:
            os._exit(0)
        self._workers.keep_deadlines(now)
        self._checkers.keep_deadlines(now)
        self._runs.keep_deadlines(now)
        if self._reset is not None:
            self._reset.keep_deadline(now)

    # -- processes

    def _runner_pids(self, worker: Worker | None) -> set[int]:
        """Pids of the runner's own processes, without that of *worker*."""
        pids = self._workers.pids(without=worker) | self._checkers.pids() | pod.relay_pids | {1}
        if self._reset is not None and self._reset.janitor is not None:
            pids.add(self._reset.janitor)
        return pids

    def _on_exits(self, ended: Iterable[tuple[int, int]]) -> None:
        current = self._workers.current
        # The worker last: a checkpoint that has ended along with it can't be restored.
        for pid, code in sorted(ended, key=lambda each: current is not None and each[0] == current.pid):
            if (self._reset is not None and self._reset.on_exit(pid, code)) or self._checkers.on_exit(pid):
                continue
            worker = self._workers.on_exit(pid)
            if worker is not None:
                self._runs.on_worker_exit(worker, code)

    # -- progress

    def _step(self) -> None:
        """Do everything that is due and possible. Called after each round of events."""
        self._workers.step()
        self._checkers.step()
        if self._runs.is_sweep_due and not self._runs.is_executing and not self._workers.is_forking:
            self._runs.is_sweep_due = False
            ended, strays = process_table.sweep(self._runner_pids(None))
            self._on_exits(ended)
            if self._reset is None:
                process_table.await_ends(strays)
            else:
                self._reset.strays |= strays
            self._workers.dying.clear()
            self._workers.step()
        if self._runs.is_sweep_due:
            return
        if self._reset is not None:
            self._continue_reset(self._reset)
        if self._workers.current is not None and not self._is_announced:
            self._is_announced = True
            self._announce()
        self._runs.step()

    def _announce(self) -> None:
        data = {path: identity.file_identity(path) for path in self._data}
        distributions = tuple(missing.distributions())
        self._host.send(
            messages.SupervisorReady(
                distributions=distributions, boot=identity.boot_id(), data=data, memory=self._memory.limit()
            )
        )

    def _continue_reset(self, reset: Reset) -> None:
        if not self._workers.is_forking and reset.wipe():
            self._workers.report_socket.listen()  # which also removes what user code has put beside it
        if reset.is_wiped and self._workers.current is not None:
            self._reset = None
            self._output.forget_late()
            if not reset.keep_files:
                self._changes.forget()
            self._runs.end_reset()
            self._host.send(messages.ResetDone())
            self._host.flush()  # before what nobody waits for
            process_table.await_ends(reset.strays)
            self._workers.end_reset()


def main() -> NoReturn:
    privileges.set_dumpable(False)
    privileges.set_name("supervisor")
    supervisor = Supervisor()
    try:
        supervisor.serve()
    except ProtocolError as error:
        sys.stderr.write(f"supervisor: {error}\n")
    os._exit(1)
