"""Every limit is named when it fires, in words that a model can act on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcp_agentrun.errors import InvalidRequestError
from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.server.mcp.render import run_answer
from mcp_agentrun.settings import Settings
from tests.support.clients import client_text as text_of
from tests.support.engines import needs_inode_limit

pytestmark = pytest.mark.anyio

FILL = "with open('{}/big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"
MANY = "for n in range(10_000): open(f'{}/{{n}}', 'w').close()"

LIMITS = {
    "memory, killed": ("blocks = [b'x' * (16 << 20) for _ in range(100)]", "more than the sandbox's 320 MiB of memory"),
    "memory, refused": ("bytearray(1 << 45)", "The sandbox has 320 MiB of memory in all."),
    "processes": (
        "import subprocess\nchildren = [subprocess.Popen(['sleep', '100']) for _ in range(100)]",
        "The sandbox allows 32 processes and threads at a time.",
    ),
    "threads": (
        "import threading as t, time\nfor _ in range(99): t.Thread(target=time.sleep, args=[100], daemon=True).start()",
        "The sandbox allows 32 processes and threads at a time.",
    ),
    "open files": ("files = [open('/dev/null') for _ in range(100)]", "A process may have 64 files open at a time."),
    "file size": ("open('sparse', 'wb').truncate(1 << 30)", "A file may have at most 24 MiB."),
    "workspace": (
        "for n in range(9): open(f'part{n}', 'wb').write(bytes(4 << 20))",
        "/workspace is full: it holds 24 MiB and 200 files and folders at most.",
    ),
    "inodes": (MANY.format("/workspace"), "/workspace is full: it holds 24 MiB and 200 files and folders at most."),
    "/tmp": (FILL.format("/tmp"), "/tmp is full: it holds 8 MiB"),
    "/dev/shm": (FILL.format("/dev/shm"), "/dev/shm is full: it holds 4 MiB"),
    "read-only root": ("open('/etc/x', 'w')", "Only /workspace, /tmp and /dev/shm can be written to."),
    "network": ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "The sandbox has no network."),
    "names": ("import urllib.request; urllib.request.urlopen('http://example.com')", "The sandbox has no network."),
    "wrapped": (
        "try: open('/etc/x', 'w')\nexcept OSError as error: raise ValueError('no') from error",
        "Only /workspace, /tmp and /dev/shm can be written to.",
    ),
    "system call": (
        "import ctypes; ctypes.CDLL(None).personality(0xffffffff); import os; os.kill(os.getpid(), 31)",
        "killed during the run by SIGSYS: the sandbox does not allow that system call",
    ),
}


async def test_the_time_limit_is_named(small: AsyncSandbox) -> None:
    result = await small.run("while True: pass", timeout=1)
    assert result.outcome == "timeout"
    for ceiling, advice in ((1, "Do less in one call."), (60, "Do less in one call, or pass a larger `timeout`")):
        limits = Settings(timeout=1, max_timeout=ceiling).limits
        answer = text_of(run_answer(replace(result, limits=limits), handle=None, new=False))
        assert f"its time limit of 1 s. {advice}" in answer


@pytest.mark.parametrize(
    "limit", [pytest.param(name, marks=[needs_inode_limit] if name == "inodes" else []) for name in LIMITS]
)
async def test_the_limit_is_named(small: AsyncSandbox, limit: str) -> None:
    code, words = LIMITS[limit]
    result = await small.run(code)
    text = text_of(run_answer(result, handle=None, new=False))
    notes = "".join(line for line in text.splitlines(keepends=True) if line.startswith("[agentrun] "))
    assert words in notes, text
    assert result.outcome not in ("ok", "unavailable")
    await small.reset()
    again = await small.run("1 + 1")
    assert (again.outcome, again.output.text()) == ("ok", "2\n")


@pytest.mark.parametrize("free", range(5))
async def test_open_files_at_the_limit_are_in_nobody_s_way(small: AsyncSandbox, free: int) -> None:
    fill = "import os\nheld = []\ntry:\n    while True: held.append(os.dup(0))\nexcept OSError: pass\n"
    result = await small.run(f"{fill}for n in held[{-free or 99}:]: os.close(n)")
    assert (result.outcome, result.state) == ("ok", "kept")
    for _ in range(2):
        result = await small.run("import sys; print('a', file=sys.stderr); print(len(held) > 40)")
        assert (result.outcome, result.state, result.output.text()) == ("ok", "kept", "a\nTrue\n")
    await small.reset()


async def test_errors_that_are_no_limit_are_left_alone(small: AsyncSandbox) -> None:
    nothing_to_read = "import os\nr, w = os.pipe()\nos.set_blocking(r, False)\nos.read(r, 1)"  # EAGAIN, as of a fork
    odd = ("1 / 0", "open('missing')", "raise OSError(10**9, 'odd')", "print(1); raise SystemExit(2)")
    for code in (*odd, nothing_to_read):
        result = await small.run(code)
        assert "[agentrun]" not in text_of(run_answer(result, handle=None, new=False))


async def test_code_that_is_too_long_is_refused_with_the_limit(small: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequestError, match="the limit of 10000 bytes"):
        await small.run("#" * 10_001)


async def test_a_timeout_above_the_ceiling_is_refused_with_the_ceiling(small: AsyncSandbox) -> None:
    with pytest.raises(InvalidRequestError, match="at most 60 s"):
        await small.run("1", timeout=60.5)
