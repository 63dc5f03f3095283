"""``mcp-agentrun``: without arguments, the MCP server over stdio."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the command. Ctrl-C, during imports as well, and output that can't be written end it in one line
    at most.
    """
    try:
        _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            what = error.filename or "the output can't be written"
            sys.stderr.write(f"mcp-agentrun: {what}: {error.strerror or error}\n")
        _discard_output()
        sys.exit(1)


def _run() -> None:
    _open_standard_streams()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else all installed packages are searched for them
    if sys.argv[1:] == ["--version"]:  # with nothing imported that takes time
        from importlib.metadata import version

        sys.stdout.write(f"mcp-agentrun, version {version('mcp-agentrun')}\n")
        return
    if len(sys.argv) > 1 or "_MCP_AGENTRUN_COMPLETE" in os.environ:  # a shell asks for completions
        from .cli import main as command_line

        command_line(prog_name="mcp-agentrun")
        return
    from .errors import SettingsError
    from .settings import load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"mcp-agentrun: {error}\n")
        sys.exit(2)  # as the command line does for invalid values
    from .server.mcp.stdio import serve_stdio

    serve_stdio(settings)


def _discard_output() -> None:
    """Have Python not try again, when it exits, to write what can't be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Open those that the process was started without. A socket would get their descriptors otherwise."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # which takes the lowest free descriptor


if __name__ == "__main__":
    main()
