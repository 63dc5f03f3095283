"""Each of the examples with a model as its user runs it: copied elsewhere, by ``uv run``, which installs what the
program names, and our package from a wheel. Then pyright checks it against the packages in that environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.support.agent_examples import EXAMPLES, run_example
from tests.support.wheel import build_wheel

BIN = Path(sys.executable).parent
UV = str(BIN / "uv")
FOLDER = CHECKOUT / "build" / "agent-examples"
"""It stays, because uv finds the environment of a program by its path."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our wheel. Its name depends on the wheel, because ``uvx`` would else take an earlier one."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    folder = FOLDER / hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wheel, folder)
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_copy_runs_and_is_well_typed(name: str, runner_image: str, wheels: Path) -> None:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy = shutil.copy(CHECKOUT / "examples" / f"{name}.py", folder)
    run_example(
        EXAMPLES[name],
        [UV, "run", "--quiet", "--reinstall-package", "mcp-agentrun", str(copy)],
        folder,
        PATH=os.pathsep.join((str(BIN), os.environ["PATH"])),
        UV_FIND_LINKS=str(wheels),
    )
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    interpreter = subprocess.run(
        [UV, "python", "find", "--script", str(copy)], check=True, capture_output=True, text=True
    )
    pyright = [sys.executable, "-m", "pyright", "--project", str(folder), "--pythonpath", interpreter.stdout.strip()]
    checked = subprocess.run(pyright, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
