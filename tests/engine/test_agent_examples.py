"""The examples with clients of APIs as programs, with a scripted model and real sandboxes. `make examples-agents` runs
those of frameworks, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT
from tests.support.agent_examples import LIBRARY, run_example


@pytest.mark.parametrize("name", LIBRARY)
def test_the_model_is_told_what_its_code_did(name: str, runner_image: str, tmp_path: Path) -> None:
    run_example(LIBRARY[name], [sys.executable, str(CHECKOUT / "examples" / f"{name}.py")], tmp_path)
