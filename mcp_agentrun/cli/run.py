"""``mcp-agentrun run``: a program in a sandbox, as ``python`` would run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import AgentRunError, FileError, InvalidRequestError
from .options import NO_LIMIT, PROGRAM_GROUPS, SERVERS_OWN, SettingsCommand, effective_settings
from .terminal import counted, note

if TYPE_CHECKING:
    from ..sandbox import AsyncSandbox, ReadFile, Result
    from ..settings import Settings
    from .program import Program

__all__ = ["run"]

_FAILED = 125
"""Exit code for a program that could not be run, or whose output is lost."""

_TOO_LONG = (
    "the program has more than {} KiB. Give a larger --code-limit (at most 512k), or move parts into other modules."
)


@click.command(
    cls=SettingsCommand,
    groups=PROGRAM_GROUPS,
    without=(*SERVERS_OWN, "checkpoints", "preload"),
    short_help="Run a program in a sandbox, as python would.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="FILE|-|-c CODE|-m MODULE [ARGS]...")
@click.option(
    "--package", "packages", multiple=True, metavar="REQUIREMENT", help="Install this first; may be repeated."
)
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="Interrupt the program after so long. Without it, there is no limit.",
)
@click.option("--alone", is_flag=True, help="Copy only FILE into the sandbox, not the files beside it.")
def run(program: tuple[str, ...], packages: tuple[str, ...], timeout: float | None, alone: bool) -> None:
    """Example: mcp-agentrun run --package requests --out results report.py -v

    Run a program in a new sandbox, as python would: a FILE, a folder with __main__.py, standard input (-), CODE, or a
    MODULE by its name. What follows is passed to the program.

    FILE and the files beside it are copied to /workspace; use --data for large folders. Plots are saved in --out or
    the current folder. Ctrl-C interrupts the program, a second one ends it.

    Exit code: the program's own; 124 after --timeout, 125 if it could not be run or its output not be written, 126 if
    the static check refused it, 137 if it exceeded --memory, and 128 and the signal's number if a signal ended it.
    """
    from ..process_exit import exit_at_once, run_interruptibly
    from .program import Program

    limit = NO_LIMIT if timeout is None else timeout
    if not 0 < limit <= NO_LIMIT:
        raise click.UsageError(f"--timeout must be a positive number of seconds, at most {NO_LIMIT:.0f}")
    # A single program imports what it needs; importing anything in advance would only delay it.
    settings = effective_settings(timeout=limit, max_timeout=limit, checkpoints=False, preload=())
    chosen = Program.from_words(program)

    async def work() -> int:
        return await _run(chosen, settings, packages, alone=alone)

    try:
        code = run_interruptibly(work)
    except AgentRunError as error:
        note(_TOO_LONG.format(settings.limits.code_limit >> 10) if _is_too_long(error) else str(error))
        code = _FAILED
    exit_at_once(code)  # a thread may still wait for standard input


def _is_too_long(error: AgentRunError) -> bool:
    return isinstance(error, InvalidRequestError) and error.argument == "code" and error.limit is not None


async def _run(program: Program, settings: Settings, packages: Sequence[str], *, alone: bool) -> int:
    """Run *program* in a new sandbox, and return the exit code."""
    from ..sandbox import AsyncRuntime, Script
    from .outcomes import exit_code, explain
    from .progress import showing_progress
    from .streams import Stdout, interruptible, read_stdin

    async with AsyncRuntime(settings) as runtime, runtime.sandbox() as sandbox:
        async with showing_progress(lambda: sandbox.stage) as report:
            await _copy_files(sandbox, program, left_out=_mounted(settings), alone=alone)
            await sandbox.ready()
            if packages:
                await sandbox.install(*packages, report=report)
        stdout = Stdout(sandbox.interrupt)
        saving = _Saving(settings, program.stem)
        stdin = read_stdin() if program.reads_stdin else None
        script = Script(program.filename, program.argv, stdin, ends_session=True)
        async with interruptible(sandbox.interrupt):
            result = await sandbox.run(
                program.code, on_bytes=stdout.write, stream=True, script=script, report=report, then=saving.save
            )
        await stdout.finish()
        explain(result, settings, install="--package")
        if stdout.has_failed:
            return _FAILED
        return 0 if stdout.is_closed else exit_code(result)


def _mounted(settings: Settings) -> set[str]:
    """Return the names that the folders of `data` have in the workspace."""
    return {Path(folder).expanduser().name for folder in settings.access.data}


async def _copy_files(sandbox: AsyncSandbox, program: Program, *, left_out: set[str], alone: bool) -> None:
    """Copy *program*'s file and those beside it, which are read while the container starts."""
    from anyio import to_thread

    if program.folder is None:
        return
    left_out = {*left_out, program.file.name} if program.file else left_out
    files = [] if alone else await to_thread.run_sync(_read_files, program.folder, left_out)
    if program.file:
        await sandbox.files.write(program.filename, program.file)
    for path, data in files:
        try:
            await sandbox.files.write(path, data)
        except FileError as error:  # the program may not need it
            note(f"not copied into the sandbox: {error}")


def _read_files(folder: Path, left_out: set[str]) -> list[tuple[str, bytes]]:
    """Read the files to be copied; return each with its path in the workspace."""
    from .program import COPIED_BYTES, COPIED_FILES, files_in

    paths, skipped = files_in(folder, left_out)
    if skipped:
        note(
            f"{skipped} files of {folder} were not copied into the sandbox: the limits are {COPIED_FILES} files and "
            f"{COPIED_BYTES >> 20} MiB. Give --data FOLDER for folders that are needed, or --alone."
        )
    found: list[tuple[str, bytes]] = []
    for path in paths:
        try:
            found.append((path.relative_to(folder).as_posix(), path.read_bytes()))
        except OSError as error:
            note(f"not copied into the sandbox: {path}: {error.strerror}")
    return found


class _Saving:
    """Save a run's files in the folder of `out`, and its pictures there or else in the current folder."""

    def __init__(self, settings: Settings, stem: str) -> None:
        from ..server.mcp.out_folder import OutFolder

        def describe(copied: int) -> str:
            return f"saved {counted(copied, 'file')} in {settings.access.out}"

        self._out = OutFolder(settings, describe) if settings.access.out else None
        self._folder = Path(settings.access.out or "").expanduser()
        self._stem = stem

    async def save(self, result: Result, read: ReadFile) -> None:
        from .pictures import save_pictures

        if self._out is not None and result.files:
            notes = await self._out.copy(read, None, result.files)
            for text in notes:
                note(text)
        elif result.files:
            names = ", ".join(file.path for file in result.files[:5])
            note(f"not kept: {names}{', ...' if len(result.files) > 5 else ''}. Give --out FOLDER to keep files.")
        try:
            for path in save_pictures(result.images, self._folder, self._stem):
                note(f"saved {path}")
        except OSError as error:
            note(f"a picture could not be saved: {error}")
