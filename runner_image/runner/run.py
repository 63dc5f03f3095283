"""One execution of code."""

from __future__ import annotations

import time

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import PICTURE_LIMIT, PROBE, Picture, PictureData

PROBE_SECONDS = 2.0  # time limit of a probe
PICTURES = 16  # pictures that are forwarded of one run


class Run:
    """One execution of code, and its result."""

    def __init__(self, request: messages.Run) -> None:
        self.request = request
        self.number = request.run
        self.path, self.no_preload = request.path, request.no_preload  # as requested, or as packages are provided
        self.received = time.monotonic()
        self.started = 0.0
        self.deadline = float("inf")  # when the next step of ending the run is due: interrupt, second interrupt, kill
        self.stopping: messages.Outcome | None = None  # of a forced end: ``timeout`` or ``cancelled``
        self.interrupts = 0
        self.is_first = False  # of its worker: there were no variables yet
        self.pictures = self.pictures_size = 0  # number and bytes of the pictures forwarded
        self.pictures_missing = 0  # bytes of the last one that are still to come
        self.verdict: messages.Verdict | None = None  # of the checker; nothing runs without
        self.awaits_packages = False  # requested from the server
        self.outcome: messages.Outcome | None = None  # set when it has ended, like those below
        self.duration = 0.0
        self.cpu_time: float | None = None
        self.peak_memory: int | None = None
        self.exit_code: int | None = None
        self.report: messages.RunReport | None = None
        self.written = 0
        self.files: tuple[messages.FileChange, ...] = ()
        self.more_files = 0
        self.strays = 0  # processes that it has left running

    @classmethod
    def probe(cls, path: str | None) -> Run:
        """An empty run, with which a restored checkpoint shows that it is alive."""
        return cls(messages.Run(run=PROBE, code="", timeout=PROBE_SECONDS, path=path, no_preload=False))

    @property
    def is_probe(self) -> bool:
        return self.number == PROBE

    @property
    def has_stdin(self) -> bool:
        script = self.request.script
        return script is not None and script.has_stdin

    def to_execute(self) -> messages.Execute:
        """The message to the worker."""
        return messages.Execute(run=self.number, code=self.request.code, path=self.path, script=self.request.script)

    def add_picture(self, message: Picture | PictureData) -> None:
        """Count a picture, or a part of one.

        :raises ProtocolError: it is unexpected or exceeds a limit.
        """
        if isinstance(message, Picture):
            self.pictures += 1
            self.pictures_size += message.size
            if self.pictures_missing or self.pictures > PICTURES or self.pictures_size > PICTURE_LIMIT:
                raise ProtocolError("too many or too large pictures")
            self.pictures_missing = message.size
        elif 0 < len(message.data) <= self.pictures_missing:
            self.pictures_missing -= len(message.data)
        else:
            raise ProtocolError("more than the picture")

    def result(self, state: messages.State, since: messages.State, unprotected: str | None) -> messages.RunResult:
        """The message to the server, once it has ended."""
        assert self.outcome is not None
        report = self.report
        return messages.RunResult(
            run=self.number,
            outcome=self.outcome,
            duration=self.duration,
            cpu_time=self.cpu_time,
            peak_memory=self.peak_memory,
            exit_code=self.exit_code,
            error=report and report.error,
            value=report and report.value,
            imported=report and report.imported,
            written=self.written,
            files=self.files,
            more_files=self.more_files,
            ended=self.strays,
            findings=self.verdict.findings if self.verdict else (),
            state=state,
            since=since,
            unprotected=unprotected,
        )
