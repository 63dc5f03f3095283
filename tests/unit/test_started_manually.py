"""The stdio server in a terminal, where there is no client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

openpty = getattr(os, "openpty", None)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore them


@pytest.mark.skipif(openpty is None, reason="no pseudo-terminals here")
def test_it_says_what_it_is_and_how_to_leave(tmp_path: Path) -> None:
    assert openpty is not None
    terminal, stdin = openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "mcp_agentrun"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    ) as process:
        os.close(stdin)
        assert process.stdout is not None
        assert process.stderr is not None
        lines = list(iter(process.stderr.readline, b"To leave, press Ctrl-C.\n"))
        os.write(terminal, b"hello?\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130, -signal.SIGINT)
        assert process.stdout.read() == b""
    os.close(terminal)
    assert lines[0].startswith(b"mcp-agentrun ")
    assert max(map(len, lines)) <= 80
    assert b"mcp-agentrun client add NAME" in b"".join(lines)
