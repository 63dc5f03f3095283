"""`mcp-agentrun shell` in a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from docker import APIClient

from tests.support.local_index import make_wheel, serve_index

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")

_SEQUENCES = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")


class Terminal:
    """A terminal in which a program runs."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self._end, child = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_agentrun", "shell", "--preload="],
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=folder,
            env={
                **os.environ,
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                "XDG_CONFIG_HOME": str(folder),
                **environ,
            },
            start_new_session=True,
        )
        os.close(child)
        self._shown = b""

    def wait_for(self, text: str) -> None:
        """Wait until *text* is shown after all that was waited for before."""
        deadline = time.monotonic() + 60
        while text.encode() not in self._shown:
            assert time.monotonic() < deadline, self._shown
            if select.select([self._end], [], [], 1)[0]:
                self._shown = _SEQUENCES.sub(b"", self._shown + os.read(self._end, 1 << 16))
        self._shown = self._shown.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


def test_a_session(tmp_path: Path, runner_image: str) -> None:
    terminal = Terminal(tmp_path)
    try:
        terminal.wait_for(">>>")
        for typed, shown in (
            ("x = 41; print('as' + 'signed')\r", "assigned"),
            ("x + 1\r", "\r\n42"),
            ("with open('made.txt', 'w') as file:\rprint(file.write('text') * 1111)\r\r", "\r\n4444"),
            (":files\r", "made.txt"),
            (":save made.txt copy.txt\r", "saved copy.txt (4 bytes)"),
            (":save made.txt copy.txt\r", "copy.txt exists. Replace it?"),
            ("\x04", ">>>"),  # which does not leave
            (":save made.txt copy.txt\r", "copy.txt exists. Replace it?"),
            ("y\r", "saved copy.txt (4 bytes)"),
            (":save made.txt ~nobody-has-this-name/x\r", "can't be written"),
            ("print('beg' + 'un'); import time; time.sleep(90)\r", "begun"),
            ("", "KeyboardInterrupt"),
            ("x\r", "\r\n41"),
            ("open('a b', 'w').close()\r", ">>>"),
            (':save "a b" saved\r', "saved saved (0 bytes)"),
            (":reset\r", "Variables, files and packages are gone."),
            ("x\r", "NameError: name 'x' is not defined"),
        ):
            if typed:
                terminal.type(typed)
            else:  # it is not the controlling terminal, which would do this at Ctrl-C
                terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for(shown)
        terminal.wait_for(">>>")
        terminal.type("if True:\rexit(3)\r\r")
        assert terminal.process.wait(60) == 3
    finally:
        terminal.close()
    assert (tmp_path / "copy.txt").read_text() == "text"


def test_an_interrupted_installation_leaves_the_shell(tmp_path: Path, runner_image: str, api: APIClient) -> None:
    is_downloading, may_end = threading.Event(), threading.Event()

    def hold(_: str) -> None:
        is_downloading.set()
        may_end.wait(60)

    make_wheel(tmp_path / "simple" / "slowpkg", "slowpkg")
    with serve_index(tmp_path, api, on_half=hold) as url:
        terminal = Terminal(tmp_path, UV_DEFAULT_INDEX=url)
        try:
            terminal.wait_for(">>>")
            terminal.type("x = 41\r")
            terminal.wait_for(">>>")
            terminal.type(":install slowpkg\r")
            assert is_downloading.wait(60)
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for("interrupted")
            may_end.set()
            terminal.wait_for(">>>")
            terminal.type("import slowpkg\r")
            terminal.wait_for("ModuleNotFoundError")
            terminal.type("x + 1\r")
            terminal.wait_for("\r\n42")
            terminal.type("exit()\r")
            assert terminal.process.wait(60) == 0
        finally:
            may_end.set()
            terminal.close()
