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

    from .blocking import Runtime, Sandbox, SandboxFiles
    from .engine import Engine
    from .errors import (
        AgentRunError,
        BusyError,
        CapacityError,
        EngineError,
        FileError,
        FileReason,
        ImageError,
        InstallError,
        InvalidRequestError,
        NotReadyError,
        SandboxLostError,
        SettingsError,
        UnavailableError,
    )
    from .safety import Finding
    from .sandbox import (
        AsyncRuntime,
        AsyncSandbox,
        Cache,
        Cause,
        FileChange,
        FileInfo,
        FileName,
        FilePage,
        Files,
        FileStat,
        Image,
        Installed,
        OnOutput,
        Outcome,
        Output,
        Result,
        RunError,
        Script,
        State,
        describe,
    )
    from .settings import Settings, load_settings

    __version__ = version("mcp-agentrun")

__all__ = [
    "AgentRunError",
    "AsyncRuntime",
    "AsyncSandbox",
    "BusyError",
    "Cache",
    "CapacityError",
    "Cause",
    "Engine",
    "EngineError",
    "FileChange",
    "FileError",
    "FileInfo",
    "FileName",
    "FilePage",
    "FileReason",
    "FileStat",
    "Files",
    "Finding",
    "Image",
    "ImageError",
    "InstallError",
    "Installed",
    "InvalidRequestError",
    "NotReadyError",
    "OnOutput",
    "Outcome",
    "Output",
    "Result",
    "RunError",
    "Runtime",
    "Sandbox",
    "SandboxFiles",
    "SandboxLostError",
    "Script",
    "Settings",
    "SettingsError",
    "State",
    "UnavailableError",
    "__version__",
    "describe",
    "load_settings",
]

_ELSEWHERE = {
    "Engine": "engine",
    "FileReason": "errors",
    "Finding": "safety",
    "RunError": "sandbox",
    "Runtime": "blocking",
    "Sandbox": "blocking",
    "SandboxFiles": "blocking",
    "Settings": "settings",
    "load_settings": "settings",
}
"""The module of each name that is neither an error nor in `mcp_agentrun.sandbox`."""


def __getattr__(name: str) -> Any:
    """Import what is asked for, once: the command line must start without the rest."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("mcp-agentrun")
    elif name in __all__:
        module = _ELSEWHERE.get(name) or ("errors" if name.endswith("Error") else "sandbox")
        value = getattr(import_module(f".{module}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
