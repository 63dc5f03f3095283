"""`mcp-agentrun run` in shell scripts: exit codes, arguments, input, signals, pipes, files and pictures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

COMMAND = f"{sys.executable} -m mcp_agentrun run "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner_image: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    return tmp_path


def shell(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run *script* in bash, in which ``run`` is the command."""
    whole = f'set -o pipefail\nrun() {{ {COMMAND} "$@"; }}\n{script}'
    return subprocess.run(["bash", "-c", whole], check=False, capture_output=True, text=True, timeout=100, **options)  # pyright: ignore


@pytest.fixture
def begun(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has begun, and that says "tidied up" when it is interrupted."""
    code = "import time\ntry:\n    print('begun')\n    time.sleep(90)\nfinally:\n    print('tidied up')\n    HOLD"
    code = code.replace("HOLD", "for _ in range(9): time.sleep(0.1)")
    with subprocess.Popen(
        [*COMMAND.split(), "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def test_arguments_files_pictures_and_exit_codes(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "helper.py").write_text("def load():\n    return open('data.txt').read()\n")
    (folder / "src" / "data.txt").write_text("beside\n")
    (folder / "src" / "tool.py").write_text(
        "import sys, pathlib, helper\n"
        "assert 'numpy' not in sys.modules\n"
        "print(sys.argv)\n"
        "print(helper.load(), pathlib.Path(__file__).with_name('data.txt').read_text(), end='')\n"
        "pathlib.Path('made.txt').write_text('made')\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2]); plt.show()\n"
        "1 + 1\n"
        "sys.exit(7)\n"
    )
    ended = shell("run --out results src/tool.py --flag 'two  words' \"\" '*' --help '$HOME'; echo $?")
    assert ended.stdout == (
        "['src/tool.py', '--flag', 'two  words', '', '*', '--help', '$HOME']\nbeside\n beside\n7\n"
    ), ended.stderr
    assert (folder / "results" / "made.txt").read_text() == "made"
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["made.txt", "tool-1.png"]
    assert f"saved {Path('results/tool-1.png')}" in ended.stderr
    assert "mcp-agentrun: saved 1 file in results.\n" in ended.stderr
    assert sorted(path.name for path in (folder / "src").iterdir()) == ["data.txt", "helper.py", "tool.py"]


def test_exit_codes_and_messages_of_python() -> None:
    ended = shell(
        "run -c 'raise SystemExit(\"bad\")'; echo $?\n"
        "run -c 'import os; os.abort()'; echo $?\n"
        "run --timeout 0.5 -c 'while True: pass' >/dev/null; echo $?\n"
        "run -c 'import shutil; shutil.rmtree(\"/\")'; echo $?\n"
        "run -c 'x = bytearray(1 << 31)'; echo $?\n"
        "run missing.py; echo $?\n"
        "run -m missing_module; echo $?\n"
    )
    assert ended.stdout.splitlines() == [
        "bad",
        "1",
        "134",
        "124",
        "126",
        "137",
        "2",
        "/opt/venv/bin/python: No module named missing_module",
        "1",
    ]
    assert "mcp-agentrun: interrupted after 0.5 s. Give a larger --timeout." in ended.stderr
    assert "mcp-agentrun: Give --safety off to run it without the static check." in ended.stderr
    assert "the memory limit of 1024 MiB was exceeded. Give a larger --memory." in ended.stderr
    assert "variables" not in ended.stderr  # there is no next run


def test_pipes_at_both_ends() -> None:
    ended = shell(
        "printf 'a\\nb' | run -c 'import sys; sys.stdout.write(sys.stdin.read().upper())' | tr A X; echo\n"
        "echo 'import sys; print(sys.argv, repr(sys.stdin.read()))' | run - one\n"
        "echo '[1]' | run -m json.tool --indent 0\n"
        "run -c 'while True: print(\"y\")' | head -n 1; echo $?\n"
        "run -c 'print(input() if 0 else 5)' <&-\n"
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["X", "B", "['-', 'one'] ''", "[", "1", "]", "y", "0", "5"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_can_not_be_written_is_an_error() -> None:
    ended = shell("run -c 'while True: print(1)' > /dev/full; echo $?")
    assert ended.stderr == "mcp-agentrun: the output can't be written: No space left on device\n"
    assert ended.stdout == "125\n"


def test_standard_streams_may_be_closed() -> None:
    ended = shell(
        "run -c 'print(1); raise SystemExit(3)' >&-; echo $?\n"
        "run -c 'import sys; print(repr(sys.stdin.read()))' <&- 2>&-; echo $?\n"
        "run -c 'raise SystemExit(4)' <&- >&- 2>&-; echo $?\n"
        f"{sys.executable} -m mcp_agentrun config >&-; echo $?\n"
    )
    assert (ended.stdout.split(), ended.stderr) == (["3", "''", "0", "4", "0"], "")


def test_output_of_100_megabytes_in_constant_memory() -> None:
    code = "for _ in range(100): print('x' * ((1 << 20) - 1))"
    with subprocess.Popen([*COMMAND.split(), "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        watched, size, largest = psutil.Process(process.pid), 0, 0
        while part := process.stdout.read(1 << 20):
            size += len(part)
            if size < 99 << 20:
                largest = max(largest, watched.memory_info().rss)
    assert (process.returncode, size) == (0, 100 << 20)
    assert largest < 150 << 20


def test_one_interrupt_is_the_programs(begun: subprocess.Popen[bytes]) -> None:
    begun.send_signal(signal.SIGINT)
    stdout, stderr = begun.communicate(timeout=60)
    assert b"tidied up" in stdout
    assert b"KeyboardInterrupt" in stdout
    assert (begun.returncode, stderr) == (130, b"")


def test_a_second_interrupt_ends_it_at_once(begun: subprocess.Popen[bytes]) -> None:
    begun.send_signal(signal.SIGINT)
    assert begun.stdout is not None
    assert begun.stdout.readline() == b"tidied up\n"
    begun.send_signal(signal.SIGINT)
    assert begun.wait(30) == 130


@pytest.mark.skipif(os.name == "nt" or shutil.which("script") is None, reason="needs a terminal")
def test_input_can_be_typed() -> None:
    code = "print('hello', input('name? '))"
    master, slave = os.openpty()
    with subprocess.Popen([*COMMAND.split(), "-c", code], stdin=slave, stdout=subprocess.PIPE) as process:
        os.close(slave)
        assert process.stdout is not None
        assert process.stdout.read(6) == b"name? "
        os.write(master, b"you\n")
        assert process.stdout.read() == b"hello you\n"
    os.close(master)
    assert process.returncode == 0
