"""The static check inside the sandbox: nothing runs without its verdict, whatever the code does to the checker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_agentrun.sandbox import AsyncSandbox, Result
from mcp_agentrun.server.mcp.render import run_answer
from mcp_agentrun.settings import Settings
from tests.support import CHECKOUT
from tests.support.clients import OpenClient
from tests.support.sandboxes import open_sandbox

pytestmark = pytest.mark.anyio

HOSTILE = "import shutil; shutil.rmtree('/')"

FIND = """
import os, signal
def checkers():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read().strip() == "checker":
                found.append(int(pid))
        except OSError:
            pass
    return found
def signal_checkers(number):
    for pid in checkers():
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it has ended since
            pass
"""


@pytest.fixture(scope="module")
async def checked(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    async with open_sandbox(Settings(checkpoints=False, preload=())) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
async def attacked(runner_image: str, anyio_backend: str) -> AsyncIterator[AsyncSandbox]:
    """A sandbox whose check lets attacks on the checker pass."""
    async with open_sandbox(Settings(safety_off=("secrets",), checkpoints=False, preload=())) as sandbox:
        assert (await sandbox.run(FIND)).outcome == "ok"
        yield sandbox


def rules(result: Result) -> list[str]:
    return [finding.rule for finding in result.findings]


async def ok(sandbox: AsyncSandbox, code: str) -> str:
    result = await sandbox.run(code)
    assert result.outcome == "ok", (result.findings, result.output.text())
    return result.output.text()


async def test_refused_code_does_not_run(checked: AsyncSandbox) -> None:
    await ok(checked, "x = 1")
    result = await checked.run(f"x = 2\n{HOSTILE}")
    assert result.outcome == "blocked"
    assert result.state == "kept"
    assert result.output.written == 0
    assert [(finding.rule, finding.line) for finding in result.findings] == [("destruction", 2)]
    assert await ok(checked, "x") == "1\n"


async def test_a_refusal_tells_the_model_what_to_do(checked: AsyncSandbox) -> None:
    answer = run_answer(await checked.run(HOSTILE), handle=None, new=False)
    assert answer.is_error
    assert answer.meta is not None
    assert answer.meta["agentrun/run"]["outcome"] == "blocked"
    (block,) = answer.content
    lines = getattr(block, "text", "").splitlines()
    assert lines[0] == "[agentrun] Nothing was run."
    assert len(lines) <= 1 + 3
    assert "Line 1, column 16: `shutil.rmtree` would delete `/`" in lines[1]
    assert "destruction" in lines[1]
    assert "reset_sandbox" in lines[2]
    assert "\n".join(lines) in (CHECKOUT / "docs" / "safety.md").read_text("utf-8")


async def test_a_syntax_error_is_pythons_own(checked: AsyncSandbox) -> None:
    result = await checked.run("def f(:")
    assert result.outcome == "error"
    assert result.error is not None
    assert result.error.type == "SyntaxError"
    assert "def f(:" in result.output.text()


async def test_code_is_judged_by_itself_and_a_module_has_its_own_name(checked: AsyncSandbox) -> None:
    await checked.reset()
    assert rules(await checked.run("os.system('pip install rich')")) == ["install"]


FUNCTIONS = [
    *("zeros", "ones", "arange", "linspace", "eye", "sum", "mean", "std"),
    *("var", "sort", "unique", "dot", "cumsum", "cumprod", "diff"),
]
CLASSES = [
    *("collections.Counter", "collections.OrderedDict", "collections.ChainMap", "collections.UserDict"),
    *("collections.UserList", "collections.deque", "queue.Queue", "queue.LifoQueue", "queue.PriorityQueue"),
    *("decimal.Decimal", "fractions.Fraction", "string.Formatter", "threading.Lock", "threading.Event"),
]


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param([f"x = np.{name}" for name in FUNCTIONS], id="functions"),
        pytest.param([f"x = np.ones(3).{name}()" for name in ("sum", "mean", "std") * 4], id="methods"),
        pytest.param([f"x = getattr(np, 'f{n}', None)" for n in range(300)], id="hundreds"),
        pytest.param(["\n".join(f"x = np.{name}" for name in FUNCTIONS * 20)] * 3, id="hundreds in a call"),
        pytest.param([f"x = x.reshape({n % 3 + 1}, -1).copy().T" for n in range(40)], id="chains"),
        pytest.param(
            [f"for x in [{', '.join(f'np.{name}' for name in FUNCTIONS)}]:\n    print(x([1, 2, 3]))"], id="loop"
        ),
        pytest.param(["\n".join(f"v{n} = np.abs" for n in range(m, m + 300)) for m in range(0, 3000, 300)], id="names"),
        pytest.param([f"import {name.split('.')[0]} as x" for name in CLASSES], id="modules"),
        pytest.param(
            [
                f"from {module} import {name}\nx = {name}()\nx.real = {name}"
                for module, name in (path.split(".") for path in CLASSES)
            ],
            id="estimators",
        ),
    ],
)
async def test_no_number_of_bindings_locks_a_session(checked: AsyncSandbox, codes: list[str]) -> None:
    await ok(checked, "import numpy as np\nx, kept = np.ones(6), 'kept'")
    for code in codes:
        result = await checked.run(code)
        assert result.outcome in ("ok", "error"), result.findings  # what they name may not be installed
    assert (await ok(checked, "print(x is None, kept)")).endswith(" kept\n")


@pytest.mark.parametrize(
    "code",
    [
        "x = 'new'\n" + HOSTILE,
        "import shutil as x\nx.rmtree('/')",
        "x = [" * 900 + "]" * 900,
        "\n".join(f"x = y{n}" for n in range(500)) + "\nx()",
        "import shutil as print\nprint.rmtree('/')",
        "import os as *",
    ],
)
async def test_a_refused_call_leaves_no_trace(checked: AsyncSandbox, code: str) -> None:
    await ok(checked, "x = 'old'")
    for _ in range(12):
        assert (await checked.run(code)).outcome in ("blocked", "error")
    assert await ok(checked, "print(x)") == "old\n"
    assert await ok(checked, "x.upper()") == "'OLD'\n"


@pytest.mark.parametrize("code", ["print(1)\rprint(2)", "print(1)\r\nprint(2)", "\fprint(1)\nprint(2)"])
async def test_what_is_executed_is_what_was_checked(checked: AsyncSandbox, code: str) -> None:
    assert await ok(checked, code) == "1\n2\n"
    assert (await checked.run(code + f"\n{HOSTILE}")).outcome == "blocked"


async def test_a_comment_can_not_hide_code_by_its_encoding(checked: AsyncSandbox) -> None:
    assert rules(await checked.run("# coding: utf-7\n+AGkAbQBwAG8AcgB0- os")) == ["cookie"]
    assert rules(await checked.run("# coding: rot13\nvzcbeg bf")) == ["cookie"]
    assert (await checked.run(f"# coding: utf-8\r{HOSTILE}")).outcome == "blocked"


async def test_the_largest_code_is_judged(checked: AsyncSandbox) -> None:
    size = Settings().limits.code_limit
    assert await ok(checked, "x = '''" + "a" * (size - 30) + "'''\nlen(x)") == f"{size - 30}\n"
    assert (await checked.run("(" * size)).outcome == "blocked"
    assert (await checked.run("x=f'" + "{a}" * (size // 3 - 5) + "'")).outcome == "blocked"
    assert await ok(checked, "print('lives')") == "lives\n"


async def test_an_input_that_exhausts_the_parser_harms_nothing(checked: AsyncSandbox) -> None:
    for code in ("-" * 200_000 + "1", "a;" * 100_000, "[" * 90 + "]" * 90 + ";" + "x = " + "a." * 60_000 + "b"):
        assert (await checked.run(code)).outcome == "blocked"
    assert await ok(checked, "print('lives')") == "lives\n"


async def test_a_killed_checker_is_replaced(attacked: AsyncSandbox) -> None:
    for _ in range(3):
        await ok(attacked, "signal_checkers(signal.SIGKILL)")
        assert rules(await attacked.run(HOSTILE)) == ["destruction"]


async def test_a_stopped_checker_goes_on(attacked: AsyncSandbox) -> None:
    await ok(attacked, "signal_checkers(signal.SIGSTOP)")
    assert rules(await attacked.run(HOSTILE)) == ["destruction"]
    await ok(attacked, "print(1)")


async def test_while_the_checker_is_being_killed_nothing_runs_unchecked(attacked: AsyncSandbox) -> None:
    await ok(
        attacked,
        """
import threading, time
stop = threading.Event()
def attack():
    while not stop.is_set():
        signal_checkers(signal.SIGKILL)
        time.sleep(0.002)
threading.Thread(target=attack, daemon=True).start()
""",
    )
    try:
        for _ in range(8):
            result = await attacked.run(f"{HOSTILE}\nprint('ran')")
            assert result.outcome == "blocked"
            assert result.output.written == 0
    finally:
        await attacked.reset()  # ends the thread with its worker
        await attacked.run(FIND)
    await ok(attacked, "print(1)")


async def test_the_checker_can_not_be_read_or_written(attacked: AsyncSandbox) -> None:
    code = """
from pathlib import Path
for pid in checkers():
    for name in ("mem", "environ", "maps", "fd", "task/%d/mem" % pid):
        path = Path(f"/proc/{pid}/{name}")
        try:
            list(path.iterdir()) if name == "fd" else path.open("rb").read(1)
        except PermissionError:
            continue
        print("open:", path)
    os.sched_setaffinity(pid, {0})  # which it undoes before it judges
    import resource
    try:
        resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))
    except OSError:
        pass
    else:
        print("limited")
print(len(checkers()) > 0)
"""
    assert await ok(attacked, code) == "True\n"


async def test_the_checker_can_not_be_traced_or_reached_by_system_calls(attacked: AsyncSandbox) -> None:
    code = """
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
calls = {"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
         "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "move_pages": (279, 239)}
side = 1 if platform.machine() == "aarch64" else 0
for pid in checkers():
    for name, number in calls.items():
        first = [16, pid] if name == "ptrace" else [pid]
        answer = libc.syscall(number[side], *first, 0, 0, 0, 0)
        if answer != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
            print(name, answer, ctypes.get_errno())
print(len(checkers()) > 0)
"""
    assert await ok(attacked, code) == "True\n"
    assert rules(await attacked.run(HOSTILE)) == ["destruction"]


async def test_without_memory_nothing_runs_unchecked(attacked: AsyncSandbox) -> None:
    result = await attacked.run(
        """
signal_checkers(signal.SIGKILL)
held = []
while True:
    held.append(b"x" * (64 << 20))
    signal_checkers(signal.SIGKILL)
"""
    )
    assert result.outcome in ("memory_limit", "timeout")  # the latter where filling it takes that long
    result = await attacked.run(f"{HOSTILE}\nprint('ran')")
    assert result.outcome == "blocked"
    assert result.output.written == 0
    await ok(attacked, FIND)
    # Files in memory outlive the worker, and are not given back by killing it.
    await attacked.run(
        """
with open("/dev/shm/full", "wb") as file:
    try:
        while file.write(bytes(1 << 20)): pass
    except OSError:
        pass
signal_checkers(signal.SIGKILL)
"""
    )
    assert (await attacked.run(f"{HOSTILE}\nprint('ran')")).outcome == "blocked"
    await attacked.reset()
    await ok(attacked, FIND)


async def test_what_the_code_makes_of_its_own_built_ins_changes_no_verdict(attacked: AsyncSandbox) -> None:
    await ok(
        attacked,
        """
import ast, builtins, re, types
ast.parse = lambda *a, **k: ast.Module([], [])
re.Pattern = None
builtins.compile = builtins.compile
os.environ["PYTHONPATH"] = "/tmp"
types.SimpleNamespace = None
""",
    )
    for _ in range(2):
        assert rules(await attacked.run(HOSTILE)) == ["destruction"]
        await attacked.run("signal_checkers(signal.SIGKILL)")
    await attacked.reset()
    await ok(attacked, FIND)


async def test_what_the_code_replaces_is_not_what_the_checker_uses(attacked: AsyncSandbox) -> None:
    await ok(
        attacked,
        """
import sys
for name in ("RestrictedPython.py", "mcp_agentrun.py", "ast.py", "safety.py"):
    open(name, "w").write("raise SystemExit(0)")
open("/tmp/ast.py", "w").write("raise SystemExit(0)")
sys.path.insert(0, "/tmp")
signal_checkers(signal.SIGKILL)
""",
    )
    assert rules(await attacked.run(HOSTILE)) == ["destruction"]
    await attacked.reset()
    await attacked.run(FIND)


async def test_the_pids_limit_does_not_let_code_run_unchecked(attacked: AsyncSandbox) -> None:
    await ok(
        attacked,
        """
import threading
end = threading.Event()
while True:
    try:
        threading.Thread(target=end.wait, daemon=True).start()
    except RuntimeError:
        break
signal_checkers(signal.SIGKILL)
""",
    )
    result = await attacked.run(f"{HOSTILE}\nprint('ran')")
    assert result.outcome == "blocked"
    assert await ok(attacked, "end.set(); print(1)") == "1\n"


async def test_warnings_and_switched_off_rules(runner_image: str) -> None:
    code = "import subprocess\nsubprocess.run('cat /etc/shadow', shell=True, stderr=subprocess.DEVNULL)"
    async with open_sandbox(Settings(safety_warn=True, checkpoints=False, preload=())) as sandbox:
        result = await sandbox.run(code)
        assert result.outcome == "ok"
        assert rules(result) == ["secrets"]
        answer = run_answer(result, handle=None, new=False)
        assert "[agentrun] The code was run despite" in getattr(answer.content[0], "text", "")
        assert (await sandbox.run("x = '" + "\\ud800'")).outcome == "ok"
        assert (await sandbox.run("# coding: utf-7\n1")).outcome == "blocked"


OWN_RULES = """
[[rule]]
id = "no-turtles"
title = "turtles"
reason = "{name} draws on a screen."
remedy = "Use matplotlib."
[[rule.when]]
names = ["turtle", "turtle.*"]
"""


async def test_an_operator_adds_rules_by_a_file(runner_image: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(OWN_RULES)
    async with open_sandbox(Settings(safety_rules=file, checkpoints=False, preload=())) as sandbox:
        result = await sandbox.run("import turtle")
        assert result.outcome == "blocked"
        assert [tuple(finding) for finding in result.findings] == [
            ("no-turtles", 1, 1, "`turtle` draws on a screen.", "Use matplotlib.")
        ]
        assert rules(await sandbox.run(HOSTILE)) == ["destruction"]
        await ok(sandbox, "print(1)")


async def test_the_check_can_be_switched_off(open_client: OpenClient) -> None:
    async with open_client("--safety", "off") as client:
        answer = await client.call_tool("run_python", {"code": "import os\nprint(os.path.exists('/etc/shadow'))"})
        assert not answer.is_error


async def test_strict_is_a_setting(open_client: OpenClient) -> None:
    async with open_client("--safety", "strict") as client:
        answer = await client.call_tool("run_python", {"code": "import os"})
        assert answer.is_error
        assert "rule strict-names" in getattr(answer.content[0], "text", "")
