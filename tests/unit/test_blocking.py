"""The public API without coroutines, as far as it needs no container."""

from __future__ import annotations

import subprocess
import sys


def test_the_process_ends_though_nobody_closes_a_runtime() -> None:
    code = "from mcp_agentrun import Runtime\nruntime = Runtime()\nruntime.start()\nprint('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
