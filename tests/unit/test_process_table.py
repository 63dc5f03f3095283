"""Which processes of a container still execute."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import pytest

from tests.support import CHECKOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def process_table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CHECKOUT / "runner_image")
    return importlib.import_module("runner.linux.process_table")


def test_a_process_is_alive_until_it_has_ended(process_table: Any) -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert process_table.is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not process_table.is_alive(pid)
    os.waitpid(pid, 0)
    assert not process_table.is_alive(pid)


@pytest.mark.parametrize(("threads", "flags", "is_alive"), [(1, 4, False), (1, 0x40, True), (2, 4, True)])
def test_a_process_that_exits_is_alive_while_it_has_other_threads(
    process_table: Any, monkeypatch: pytest.MonkeyPatch, threads: int, flags: int, is_alive: bool
) -> None:
    fields = b"R 1 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 %d 0" % (flags, threads)

    def read_stat(_: int) -> list[bytes]:
        return fields.split()

    monkeypatch.setattr(process_table, "_read_stat", read_stat)
    assert process_table.is_alive(5) is is_alive
