"""Errors as values: what survives copying and pickling, as between processes and for each call that waits."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import mcp_agentrun
from mcp_agentrun import errors
from mcp_agentrun.errors import AgentRunError

FIELDS: dict[str, dict[str, object]] = {
    "SettingsError": {"setting": "memory", "origin": "flag"},
    "InvalidRequestError": {"argument": "code", "limit": 5.0},
    "FileError": {"path": "a", "reason": "full", "limit": 9},
    "InstallError": {"requirements": ("numpy", "pandas")},
    "BusyError": {"limit": 16},
    "CapacityError": {"reason": "quota", "limit": 16},
    "SandboxLostError": {"is_closed": True},
    "NotReadyError": {"stage": "starting the container"},
}


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_an_error_keeps_its_fields(name: str) -> None:
    kind: type[AgentRunError] = getattr(errors, name)
    error = kind("what happened", **FIELDS.get(name, {}))
    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert isinstance(same, AgentRunError) and type(same) is kind and str(same) == "what happened"
        assert vars(same) == FIELDS.get(name, {})


def test_the_tree_in_the_docstring_names_all() -> None:
    assert all(name in str(errors.__doc__) for name in errors.__all__ if name.endswith("Error"))


def test_every_public_class_has_an_example() -> None:
    public = [getattr(mcp_agentrun, name) for name in mcp_agentrun.__all__]
    # In Python 3.10, aliases such as OnOutput are classes, too.
    classes = [each for each in public if inspect.isclass(each) and each.__module__.startswith("mcp_agentrun")]
    without = {each.__name__ for each in classes if "::" not in (each.__doc__ or "")}
    assert without == {each.__name__ for each in classes if issubclass(each, AgentRunError)} - {"AgentRunError"}
