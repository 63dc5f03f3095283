"""One execution of code."""

from __future__ import annotations

import time

from mcp_agentrun.wire import messages
from mcp_agentrun.wire.codec import ProtocolError
from mcp_agentrun.wire.messages import PICTURE_LIMIT, PROBE, Picture, PictureData

PICTURES = 16
"""Pictures that are forwarded of one run."""


class Run:
    """One execution of code, and what came of it."""

    def __init__(
        self,
        number: int,
        code: str,
        path: str | None,
        timeout: float,
        *,
        bare: bool = False,
        stream: bool = False,
        script: messages.Script | None = None,
    ) -> None:
        self.number = number
        self.code = code
        self.path = path
        self.timeout = timeout
        self.bare = bare
        """At `path` there are other versions of the data packages that workers come with."""
        self.stream = stream
        """All of its output is forwarded."""
        self.script = script
        self.received = time.monotonic()
        self.started = 0.0
        self.deadline = float("inf")
        """When the next step of ending the run is due: interrupt, second interrupt, kill."""
        self.stopping: messages.Outcome | None = None
        """Outcome that a forced end will have: ``timeout`` or ``cancelled``."""
        self.interrupts = 0
        self.is_first = False
        """Of its worker: there were no variables yet."""
        self.pictures = 0
        """Pictures forwarded; `pictures_size` are their bytes, of which `pictures_missing` are to come."""
        self.pictures_size = 0
        self.pictures_missing = 0
        self.verdict: messages.Verdict | None = None
        """What the checker says of the code; nothing runs without."""
        self.is_held = False
        """The server has been asked for packages, and has not answered yet."""
        self.outcome: messages.Outcome | None = None
        """Set when it has ended, as are those below."""
        self.duration = 0.0
        self.exit_code: int | None = None
        self.report: messages.Report | None = None
        self.written = 0
        self.files: tuple[messages.FileChange, ...] = ()
        self.more_files = 0
        self.strays = 0
        """Processes that it has left running."""

    @property
    def is_probe(self) -> bool:
        return self.number == PROBE

    def add_picture(self, message: Picture | PictureData) -> None:
        """Count a picture, or a part of one.

        :raises ProtocolError: it is not the one that is expected, or too much.
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

    def result(self, state: messages.State, since: messages.State, unprotected: str | None) -> messages.Result:
        """What the server gets of it, once it has ended."""
        assert self.outcome is not None
        report = self.report
        return messages.Result(
            run=self.number,
            outcome=self.outcome,
            duration=self.duration,
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
