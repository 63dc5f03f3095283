"""AgentRun's class, on this package's sandboxes. Programs only have to change the import::

    from mcp_agentrun.compat import AgentRun

    runner = AgentRun()
    print(runner.execute_code_in_container("print('Hello, world!')"))

`docs/agentrun.md` compares the two classes, and lists the defects of AgentRun that this one does not have.
"""

from __future__ import annotations

import builtins
import logging
import os
import re
import shlex
import threading
import uuid
import weakref
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from queue import LifoQueue
from typing import Any, Literal, cast

from .blocking import Runtime, Sandbox
from .errors import AgentRunError, FileError, ImageError, InstallError, InvalidRequestError, UnavailableError
from .own_process import require_own
from .packages.names import STDLIB_MODULES, distribution_of
from .safety import Finding, Profile, check
from .sandbox import Result, Script
from .settings import Settings, load_settings
from .settings.fields import MIB, parse_size

__all__ = ["PROGRAM", "AgentRun", "output_text"]

logger = logging.getLogger(__name__)

_MINIMUM_MEMORY = 256 * MIB
_FOLDERS = {"workspace_size": "64m", "tmp_size": "32m", "shm_size": "8m"}
"""Sizes that fit in the minimum memory, which holds these folders."""

_PRELOADED = Settings().image.preload
"""Imported in advance only if they are cached: with half a core, forking a process that has them takes long."""

_MAX_SANDBOXES = 4
_NO_LIMIT = 1e6

_SAFE = "The code is safe to execute."
_INSTALLED = "Dependencies installed successfully."

_DECIDED_BY_WHITELIST = ("strict-packages",)
"""Rules of the static check that don't apply, because the whitelist says which packages code may import."""

_REFUSED_MODULES = frozenset(("os", "sys", "subprocess", "builtins"))
_DANGEROUS = frozenset(("exec", "eval", "compile", "globals", "locals", "vars", "dir"))
"""Built-in functions that AgentRun calls dangerous if they are called by name."""

PROGRAM = Script("/workspace/script.py", ("script.py",), ends_session=True)
"""How code is run, of which nothing is kept."""

_COMMAND = """
import subprocess
try:
    code = subprocess.run({!r}, stdin=subprocess.DEVNULL).returncode
except OSError as error:
    print(error)
    code = 127
raise SystemExit(code if code >= 0 else 128 - code)
"""


class _Names:
    """An attribute that is a list of names. It can be assigned a string, which is split.

    :raises ValueError: what is assigned is neither a string nor a series of strings.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> list[str]:
        return vars(instance)[self._name]

    def __set__(self, instance: object, names: str | Iterable[str]) -> None:
        vars(instance)[self._name] = _as_list(names, self._name)


class AgentRun:
    """Run Python code in containers, each call in a fresh interpreter. Safe to use from several threads.

    Call `close` at the end, or use it as a context manager. Its containers never outlive the process. Methods raise
    ValueError for arguments of a wrong type, and RuntimeError after `close` and in a process forked from this one.

    :param container_name: ignored: the class creates its containers, locks them down and destroys them.
    :param dependencies_whitelist: packages that code may import, by the name of module or package; ``["*"]`` for all.
    :param cached_dependencies: packages that are installed once, for all calls.
    :param cpu_quota: microseconds of processor time per 100 ms; 0 or less for no limit.
    :param default_timeout: seconds that code may run.
    :param memory_limit: memory of a container; less than 256 MiB is raised to that, with a warning in the log.
    :param memswap_limit: ignored: sandboxes have no swap.
    :param client: a docker client of the engine that the environment names. It is only pinged.
    :param safety: profile of the static check; ``standard`` permits what the container prevents anyway.
    :param network: ``bridge`` for code that may reach everything the host can.
    :raises ValueError: a parameter is invalid, or the cached dependencies can't be installed.
    :raises RuntimeError: there is no container engine.
    """

    class CommandTimeout(Exception):  # noqa: N818
        """A command exceeded its timeout and was ended."""

    dependencies_whitelist = _Names()
    cached_dependencies = _Names()

    def __init__(
        self,
        container_name: str | None = None,
        dependencies_whitelist: str | Iterable[str] = ("*",),
        cached_dependencies: str | Iterable[str] = (),
        cpu_quota: int = 50000,
        default_timeout: float = 20,
        memory_limit: str | int = "100m",
        memswap_limit: str | int = "512m",
        client: Any = None,
        *,
        safety: Profile = "strict",
        network: Literal["none", "bridge"] = "none",
    ) -> None:
        self.container_name = container_name
        self.dependencies_whitelist = dependencies_whitelist
        self.cached_dependencies = cached_dependencies
        self.cpu_quota = cpu_quota
        self.default_timeout = default_timeout
        self.memory_limit = memory_limit
        self.memswap_limit = memswap_limit
        self.client = client
        self.safety: Profile = safety
        self.network = network
        self._stack = ExitStack()
        self._is_open = False
        self._pid = os.getpid()
        weakref.finalize(self, _close_in_thread, self._stack).atexit = False
        if client is not None:
            _require_usual_engine(client)
        if not self.validate_cached_dependencies():
            raise ValueError("Some cached dependencies are not in the whitelist.")
        try:
            self.install_cached_dependencies()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AgentRun:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the containers. Nothing happens in a forked process: they belong to the parent."""
        self._is_open = False
        self._stack.close()

    def execute_code_in_container(self, python_code: str) -> str:
        """Run *python_code* as a script and return its output. Refusals and failures are returned as text too."""
        verdict = self.safety_check(python_code)
        _require_seconds(self.default_timeout, "default_timeout")
        if not verdict["safe"]:
            return str(verdict["message"])
        try:
            with self._fresh() as sandbox:
                installed = self.install_dependencies(sandbox, self.parse_dependencies(python_code))
                if installed != _INSTALLED:
                    return installed
                return output_text(sandbox.run(python_code, timeout=self.default_timeout, script=PROGRAM))
        except AgentRunError as error:
            return str(error)

    def safety_check(self, python_code: str) -> dict[str, object]:
        """Check *python_code* without running it. Return ``safe``, a bool, and a ``message``."""
        _require_string(python_code, "python_code")
        findings = check(python_code, self.safety, off=_DECIDED_BY_WHITELIST).findings
        return {"safe": not findings, "message": _refusal(python_code, findings) if findings else _SAFE}

    def parse_dependencies(self, python_code: str) -> list[str]:
        """Return the top-level modules that *python_code* imports from outside the standard library, sorted.

        :raises SyntaxError: it is not valid Python.
        """
        _require_string(python_code, "python_code")
        verdict = check(python_code, "off")
        if verdict.is_syntax_error:
            raise SyntaxError(verdict.findings[0].reason)
        return [module for module in verdict.imports if module not in STDLIB_MODULES]

    def is_everything_whitelisted(self) -> bool:
        """Return whether all packages are allowed."""
        return "*" in self.dependencies_whitelist

    def validate_cached_dependencies(self) -> bool:
        """Return whether all cached dependencies are allowed."""
        return all(map(self._is_whitelisted, self.cached_dependencies))

    def install_cached_dependencies(self) -> None:
        """Start new containers with the cached dependencies and the current limits.

        :raises ValueError: a dependency can't be installed, or a limit is invalid.
        :raises RuntimeError: there is no container engine.
        """
        self.close()
        try:
            self._open()
            with self._fresh() as sandbox:
                sandbox.reset()  # which needs the container
                installed = self.install_dependencies(sandbox, self.cached_dependencies)
        except ImageError as error:
            raise RuntimeError(str(error)) from error
        except UnavailableError as error:
            raise RuntimeError(
                f"Failed to connect to Docker daemon. Please make sure Docker is running. {error}"
            ) from error
        except AgentRunError as error:
            raise ValueError(str(error)) from error
        if installed != _INSTALLED:
            raise ValueError(installed)

    def install_dependencies(self, container: object, dependencies: str | Iterable[str]) -> str:
        """Install *dependencies* if all of them are allowed, and return a message.

        :param container: ignored. The methods with this parameter share one sandbox, which keeps its files.
        :param dependencies: a list of names, or a string that holds them.
        """
        dependencies = _as_list(dependencies, "dependencies")
        for dependency in dependencies:
            if not self._is_whitelisted(dependency):
                return f"Dependency: {dependency} is not in the whitelist."
        sandbox = self._sandbox(container)
        for dependency in dependencies:
            try:
                sandbox.install(_requirement(dependency))
            except (InstallError, InvalidRequestError) as error:
                logger.info("%s could not be installed: %s", dependency, error)
                return f"Failed to install dependency {dependency}"
        if sandbox is self._own:
            self._added += dependencies
        return _INSTALLED

    def uninstall_dependencies(self, container: object, dependencies: str | Iterable[str]) -> str:
        """Uninstall *dependencies*, unless they are cached, and return a message."""
        dependencies = _as_list(dependencies, "dependencies")
        sandbox = self._sandbox(container)
        others = [each for each in self._added if each not in dependencies]
        sandbox.reset(keep_files=True)
        self._added = []
        self.install_dependencies(sandbox, others)
        return "Dependencies uninstalled successfully."

    def execute_command_in_container(
        self, container: object, cmd: str | Sequence[str], timeout: float
    ) -> tuple[int | None, str]:
        """Run a program in the workspace, which ``/code`` also stands for. Return its exit code and output.

        :raises CommandTimeout: it did not end within *timeout* seconds.
        """
        _require_seconds(timeout, "timeout")
        result = self._sandbox(container).run(_COMMAND.format(_words(cmd)), timeout=timeout)
        if result.outcome == "timeout":
            raise self.CommandTimeout("Command timed out")
        return result.exit_code, output_text(result)

    def copy_code_to_container(self, container: object, python_code: str) -> dict[str, bool | str]:
        """Write *python_code* to a new script. Return ``success``, a bool, and its name or an error as ``message``."""
        _require_string(python_code, "python_code")
        name = f"script_{uuid.uuid4().hex}.py"
        try:
            self._sandbox(container).files.write(name, python_code.encode())
        except (FileError, UnavailableError, UnicodeEncodeError):
            return {"success": False, "message": "Failed to copy script to container."}
        return {"success": True, "message": name}

    def clean_up(self, container: object, script_name: str, dependencies: str | Iterable[str]) -> None:
        """Remove a script, and uninstall *dependencies*."""
        if script_name:
            _require_string(script_name, "script_name")
            with suppress(FileError):
                self._sandbox(container).files.remove(script_name)
            self.uninstall_dependencies(container, dependencies)

    def _open(self) -> None:
        self._runtime = self._stack.enter_context(Runtime(_settings(self)))
        self._idle: LifoQueue[Sandbox | None] = LifoQueue()
        for _ in range(_MAX_SANDBOXES):
            self._idle.put(None)
        self._starting = threading.Lock()
        self._own: Sandbox | None = None
        self._added: list[str] = []
        self._pid, self._is_open = os.getpid(), True

    def _require_open(self) -> None:
        require_own(self._pid, "AgentRun")
        if not self._is_open:
            raise RuntimeError("this AgentRun is closed; make another one, or call install_cached_dependencies")

    def _start(self) -> Sandbox:
        return self._stack.enter_context(self._runtime.sandbox())

    @contextmanager
    def _fresh(self) -> Generator[Sandbox]:
        """A fresh sandbox for the caller alone, reset afterwards."""
        self._require_open()
        idle = self._idle
        sandbox = idle.get()
        fresh: Sandbox | None = None  # unless the reset ends, as it does not at Ctrl-C
        try:
            sandbox = sandbox or self._start()
            try:
                yield sandbox
            finally:
                with suppress(UnavailableError):  # it gets a new container then
                    sandbox.reset()
                fresh = sandbox
        finally:
            idle.put(fresh)

    def _sandbox(self, container: object) -> Sandbox:
        if isinstance(container, Sandbox):
            return container
        self._require_open()
        with self._starting:
            if self._own is None:
                self._own = self._start()
            return self._own

    def _is_whitelisted(self, dependency: str) -> bool:
        names = {dependency, _requirement(dependency)}
        return self.is_everything_whitelisted() or any(
            each in names or distribution_of(each) in names for each in self.dependencies_whitelist
        )


def _settings(runner: AgentRun) -> Settings:
    """Return the settings of *runner*'s sandboxes.

    :raises ValueError: a limit is invalid.
    """
    _require_number(runner.cpu_quota, "cpu_quota")
    try:
        memory = parse_size(runner.memory_limit)
    except ValueError as error:
        raise ValueError(f"memory_limit: {error}") from None
    if not isinstance(memory, int) or isinstance(memory, bool):
        raise ValueError(f"memory_limit must be a size, not {memory!r}")
    if memory < _MINIMUM_MEMORY:
        logger.warning("memory_limit is %s; raised to 256m, which the sandbox needs", runner.memory_limit)
        memory = _MINIMUM_MEMORY
    return load_settings(
        {
            "memory": memory,
            **_FOLDERS,
            "cpus": runner.cpu_quota / 100_000 if runner.cpu_quota > 0 else os.cpu_count(),
            "max_timeout": _NO_LIMIT,
            "code_limit": "512k",
            "network": runner.network,
            "preinstall": tuple(map(_requirement, runner.cached_dependencies)),
            "preload": tuple(each for each in _PRELOADED if each.partition(".")[0] in runner.cached_dependencies),
            "auto_install": "off",
            "checkpoints": False,
            "safety": "off",  # code is judged here, and commands not at all
        }
    )


def _as_list(names: object, parameter: str) -> list[str]:
    if isinstance(names, str):
        return re.findall(r"[^\s,]+", names)
    found = list(cast("Iterable[object]", names)) if isinstance(names, Iterable) else [None]
    if not all(isinstance(each, str) for each in found):
        raise ValueError(f"{parameter} must be a string or a list of strings, not {names!r}")
    return cast("list[str]", found)


def _words(command: str | Sequence[str]) -> list[str]:
    """Return the arguments of *command*, with the sandbox's paths."""
    words = shlex.split(command) if isinstance(command, str) else _as_list(command, "cmd")
    if not words:
        raise ValueError("cmd is empty")
    return [re.sub(r"^/code(?=/|$)", "/workspace", word) for word in words]


def _require_string(value: object, parameter: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{parameter} must be a string, not {type(value).__name__}")


def _require_number(value: object, parameter: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"{parameter} must be a number, not {value!r}")


def _require_seconds(value: object, parameter: str) -> None:
    if value is not None:  # which stands for the default
        _require_number(value, parameter)


def _requirement(dependency: str) -> str:
    """Return the requirement for *dependency*, the name of a module or a requirement."""
    return distribution_of(dependency) if dependency.isidentifier() else dependency


def _require_usual_engine(client: Any) -> None:
    from docker import from_env
    from docker.errors import DockerException

    if not hasattr(client, "ping"):
        raise ValueError(f"client must be a docker client, not {client!r}")
    try:
        client.ping()
        usual: Any = from_env()  # pyright: ignore[reportUnknownVariableType]
    except DockerException as error:
        raise RuntimeError(
            f"Failed to connect to Docker daemon. Please make sure Docker is running. {error}"
        ) from error
    with closing(usual):
        if client.api.base_url != usual.api.base_url:
            raise ValueError(f"client is of the engine {client.api.base_url}; set DOCKER_HOST to have code run there.")


def _close_in_thread(stack: ExitStack) -> None:
    """Close *stack* in another thread: garbage may be collected in the event loop's thread, which closing waits for."""
    threading.Thread(target=stack.close, name="mcp-agentrun-close").start()


def output_text(result: Result) -> str:
    """Return what AgentRun would have returned for *result*."""
    match result.outcome:
        case "timeout":
            return "Execution timed out."
        case "blocked":
            return result.findings[0].reason
        case "memory_limit":
            return result.text + "Memory limit exceeded.\n"
        case "crashed":
            return result.text + f"The process crashed (exit code {result.exit_code}).\n"
        case _:
            return result.text


def _refusal(code: str, findings: Sequence[Finding]) -> str:
    """Return AgentRun's message for what it refuses too, and our own for the rest."""
    first = findings[0]
    if first.rule == "syntax":
        problem = first.reason.removeprefix("Not valid Python: ").removesuffix(".")
        return f"Syntax error: {problem} (<unknown>, line {first.line})"
    for finding in findings:
        if finding.rule == "strict-names" and (message := _refused_name(code, finding)):
            return message
    restricted = tuple(
        f"Line {each.line}: {each.reason.removeprefix('RestrictedPython: ')}"
        for each in findings
        if each.rule == "restricted-python"
    )
    if restricted:
        return f"RestrictedPython detected an unsafe pattern: {restricted}"
    return f"{first.reason} {first.remedy}" if first.rule == "strict-names" else first.reason


def _refused_name(code: str, finding: Finding) -> str | None:
    name = finding.reason.split("`")[1]
    if name.partition(".")[0] in _REFUSED_MODULES:
        return f"Unsafe module import: {name}"
    if not hasattr(builtins, name):
        return None
    after = code.splitlines()[finding.line - 1][finding.column - 1 :].removeprefix(name)
    if name in _DANGEROUS and after.lstrip().startswith("("):
        return f"Use of dangerous built-in function: {name}"
    return f"Unsafe function call: {name}"
