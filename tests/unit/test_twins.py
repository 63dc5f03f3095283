"""The class of files without coroutines offers what its asynchronous twin does."""

from __future__ import annotations

import inspect

from mcp_agentrun.blocking import SandboxFiles
from mcp_agentrun.sandbox import Files


def parameters(cls: type) -> dict[str, list[str]]:
    """The names of the parameters of each public method."""
    methods = inspect.getmembers(cls, callable)
    return {name: list(inspect.signature(method).parameters) for name, method in methods if not name.startswith("_")}


def test_each_method_has_a_twin_with_the_same_parameters() -> None:
    assert parameters(SandboxFiles) == parameters(Files)
