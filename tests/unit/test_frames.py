"""How the runner hides its frames, on whatever Python runs the tests: only one version is known."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.support import CHECKOUT

PATH = CHECKOUT / "runner_image" / "runner" / "interpreter_frames.py"
STACK = """
import sys
frame, names = sys._getframe(), []
while frame is not None:
    names.append(frame.f_code.co_name)
    frame = frame.f_back
"""


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A copy of the module for each test, so that a test can change it."""
    monkeypatch.syspath_prepend(PATH.parents[1])
    spec = importlib.util.spec_from_file_location("runner.copied_frames", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def execute(frames: Any, code: str, **options: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    calls, hide = frames.alone(sys._getframe(), exec, code, namespace, **options)  # pyright: ignore[reportPrivateUsage]
    calls.pop()(*hide)
    return namespace


@pytest.mark.parametrize("is_known", [True, False])
def test_code_is_alone_where_the_layout_is_known_and_runs_anywhere(frames: Any, is_known: bool) -> None:
    if not is_known:
        frames._IS_KNOWN = False
    is_hidden = frames._IS_KNOWN
    assert (execute(frames, STACK)["names"] == ["<module>"]) is is_hidden
    with pytest.raises(KeyError) as caught:
        execute(frames, "{}['k']")
    assert caught.traceback[-2].name == "execute"
    assert sys._getframe().f_back is not None  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("name", "offset"), [("_FRAME", 16), ("_FRAME", 0), ("_PREVIOUS", 16), ("_OBJECT", 56)])
def test_a_layout_that_is_not_as_it_should_be_is_left_alone(frames: Any, name: str, offset: int) -> None:
    setattr(frames, name, offset)
    assert execute(frames, STACK)["names"] != ["<module>"]


def test_exceptions_find_the_frames_again_where_tracing_was_left_on(frames: Any) -> None:
    before = sys.gettrace()
    try:
        with pytest.raises(KeyError):
            execute(frames, "import sys\nsys.settrace(lambda *_: None)\n{}['k']")
    finally:
        sys.settrace(before)


def test_frames_that_are_not_the_callers_are_left_alone(frames: Any) -> None:
    outer = sys._getframe()  # pyright: ignore[reportPrivateUsage]

    def inner() -> dict[str, Any]:
        namespace: dict[str, Any] = {}
        calls, hide = frames.alone(outer, exec, STACK, namespace)
        calls.pop()(*hide)
        return namespace

    assert inner()["names"][:2] == ["<module>", "inner"]


def test_recursion_is_not_discounted_where_the_layout_is_unknown(frames: Any) -> None:
    frames._IS_KNOWN = False
    before = sys.getrecursionlimit()
    frames.discount(50)
    assert sys.getrecursionlimit() == before
