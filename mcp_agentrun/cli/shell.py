"""``mcp-agentrun shell``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import click

from ..errors import extra_advice
from .options import NO_LIMIT, PROGRAM_GROUPS, SERVERS_OWN, SettingsCommand, effective_settings

__all__ = ["shell"]


@click.command(
    cls=SettingsCommand,
    groups=PROGRAM_GROUPS,
    without=(*SERVERS_OWN, "out", "out_size"),
    short_help="Type Python into a sandbox.",
)
def shell() -> None:
    """Example: mcp-agentrun shell --data measurements

    An interactive prompt in a new sandbox. :help lists its commands; Ctrl-C interrupts code, Ctrl-D or exit() leaves.
    """
    from ..process_exit import exit_at_once, run_interruptibly

    missing = [name for name in ("prompt_toolkit", "pygments") if find_spec(name) is None]
    if missing:
        raise click.ClickException(f"The shell needs {' and '.join(missing)}. {extra_advice('shell')}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The shell needs a terminal. To run code from a pipe: mcp-agentrun run -")
    settings = effective_settings(timeout=NO_LIMIT, max_timeout=NO_LIMIT)

    async def work() -> int:
        from ..sandbox import AsyncRuntime
        from .repl import Repl

        async with AsyncRuntime(settings) as runtime, runtime.sandbox() as sandbox:
            return await Repl(sandbox, settings).loop()

    exit_at_once(run_interruptibly(work))
