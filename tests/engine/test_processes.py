"""Programs that user code starts: scripts, shells and pools, with their output in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcp_agentrun.sandbox import AsyncSandbox
from mcp_agentrun.settings import Settings
from tests.support.sandboxes import open_sandbox

pytestmark = pytest.mark.anyio

SCRIPT = """
import os, sys
print("out", *sys.argv[1:])
print("err", file=sys.stderr)
print(os.getcwd())
"""


@pytest.fixture(scope="module")
async def sandbox(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    async with open_sandbox(Settings(checkpoints=False, preload=())) as sandbox:
        await printed(sandbox, f"_ = open('script.py', 'w').write({SCRIPT!r})\nimport os, subprocess, sys")
        yield sandbox


async def printed(sandbox: AsyncSandbox, code: str) -> str:
    result = await sandbox.run(code)
    assert result.outcome == "ok", (result.findings, result.output.text())
    return result.output.text()


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, 'script.py', 'a'])",
        "subprocess.run(['python', 'script.py', 'a'], check=True)",
        "subprocess.run(['python3', '/workspace/script.py', 'a'])",
        "subprocess.run('python script.py a', shell=True)",
        "subprocess.run(['bash', '-lc', 'python script.py a'])",
        "os.system('python script.py a')",
        "os.waitpid(os.spawnlp(os.P_NOWAIT, 'python', 'python', 'script.py', 'a'), 0)",
    ],
)
async def test_a_script_that_was_just_written_runs_as_a_program(sandbox: AsyncSandbox, start: str) -> None:
    assert await printed(sandbox, f"print(1)\n_ = {start}\nprint(2)") == "1\nout a\nerr\n/workspace\n2\n"


async def test_pipelines_and_what_they_print(sandbox: AsyncSandbox) -> None:
    code = """
print("first")
subprocess.run("seq 3 | sort -r | tr '\\\\n' ' '; echo; ls *.py | wc -l", shell=True)
print(subprocess.check_output(["python", "-c", "import numpy; print(numpy.ones(2))"], text=True), end="")
print(subprocess.run("cat", shell=True, input="in\\n", text=True, capture_output=True).stdout, end="")
for i in range(3):
    print("call", i)
    subprocess.run(["echo", str(i)])
"""
    assert await printed(sandbox, code) == "first\n3 2 1 \n1\n[1. 1.]\nin\ncall 0\n0\ncall 1\n1\ncall 2\n2\n"


async def test_pools_of_processes(sandbox: AsyncSandbox) -> None:
    code = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def square(x): return x * x
with multiprocessing.Pool(2) as pool, ProcessPoolExecutor(2) as executor:
    print(pool.map(square, [1, 2]), list(executor.map(square, [3, 4])))
"""
    assert await printed(sandbox, code) == "[1, 4] [9, 16]\n"


async def test_what_a_call_starts_ends_with_it(sandbox: AsyncSandbox) -> None:
    await printed(sandbox, "p = subprocess.Popen(['sleep', '1000'])")
    assert await printed(sandbox, "print(p.wait())") == "-9\n"


async def test_what_a_program_printed_before_a_timeout_is_not_lost(sandbox: AsyncSandbox) -> None:
    result = await sandbox.run("subprocess.run(['python', '-c', 'print(1)\\nwhile True: pass'])", timeout=5)
    assert result.outcome == "timeout"
    assert result.output.text().startswith("1\n")
