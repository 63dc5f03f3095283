"""The examples with clients of APIs, where there is no container engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import CHECKOUT
from tests.support.agent_examples import LIBRARY
from tests.support.scripted_model import call, scripted_model


@pytest.mark.parametrize("name", LIBRARY)
def test_what_no_model_can_fix_ends_the_program(name: str) -> None:
    with scripted_model(call("1 + 1"), "I give up.") as model:
        environment = {
            **os.environ,
            **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "none"),
            "OPENAI_BASE_URL": model.url,
            "ANTHROPIC_BASE_URL": model.root,
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        }
        program = [sys.executable, str(CHECKOUT / "examples" / f"{name}.py"), *LIBRARY[name].arguments]
        ended = subprocess.run(program, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "EngineError: No container engine can be reached." in ended.stderr
    assert len(model.requests) < 2
