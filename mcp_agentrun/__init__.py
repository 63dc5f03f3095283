"""A private Python interpreter for AI agents, in a locked-down container on your own machine.

    from mcp_agentrun import Sandbox

    with Sandbox() as sandbox:
        sandbox.run("x = 41")
        print(sandbox.run("x + 1").text)  # 42

`AsyncSandbox` has the same methods as coroutines; `Runtime` and `AsyncRuntime` hold what several sandboxes share.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import version

    from .blocking import Runtime, Sandbox
    from .errors import (
        AgentRunError,
        BusyError,
        EngineError,
        FileError,
        ImageError,
        InstallError,
        InvalidRequestError,
        NotReadyError,
        SandboxLostError,
        SettingsError,
        UnavailableError,
    )
    from .packages.installer import Installed
    from .safety import Finding
    from .sandbox import (
        AsyncRuntime,
        AsyncSandbox,
        FileChange,
        FileInfo,
        Image,
        Outcome,
        Output,
        Result,
        RunError,
        Script,
        State,
    )
    from .settings import Settings, load

    __version__ = version("mcp-agentrun")

__all__ = [
    "AgentRunError",
    "AsyncRuntime",
    "AsyncSandbox",
    "BusyError",
    "EngineError",
    "FileChange",
    "FileError",
    "FileInfo",
    "Finding",
    "Image",
    "ImageError",
    "InstallError",
    "Installed",
    "InvalidRequestError",
    "NotReadyError",
    "Outcome",
    "Output",
    "Result",
    "RunError",
    "Runtime",
    "Sandbox",
    "SandboxLostError",
    "Script",
    "Settings",
    "SettingsError",
    "State",
    "UnavailableError",
    "__version__",
    "load",
]

_MODULES = {"Runtime": "blocking", "Sandbox": "blocking", "Installed": "packages.installer", "Finding": "safety"} | {
    "Settings": "settings",
    "load": "settings",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the command line must start without the rest."""
    if name == "__version__":
        return import_module("importlib.metadata").version("mcp-agentrun")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name) or ("errors" if name.endswith("Error") and name != "RunError" else "sandbox")
    return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    return __all__
