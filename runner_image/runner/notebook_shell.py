"""What ``get_ipython()`` returns, and patches that redirect IPython's display to that of the session."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from mcp_agentrun.notebook import Cell, is_expression

from .display import Display
from .prelude import Any, __builtins__

WORKSPACE = "/workspace"
_LEAST_SECONDS, _MOST_SECONDS = 0.05, 10.0  # that %timeit measures for


def patches(display: Display, shell: Shell) -> dict[str, Any]:
    """Patches by the name of the module, of IPython or of its substitute in the image, that they apply to."""

    def functions(module: Any) -> None:
        module.display, module.publish_display_data = display.display, display.show_best
        module.clear_output, module.update_display = shell.clear_output, display.display

    def getipython(module: Any) -> None:
        module.get_ipython = shell.get_ipython

    return {"IPython.core.display_functions": functions, "IPython.core.getipython": getipython}


def forget_substitute(is_installed: bool) -> None:
    """Let IPython be imported, if it *is_installed* now but its substitute was imported before."""
    path = getattr(sys.modules.get("IPython"), "__file__", None)
    if is_installed and isinstance(path, str) and path.startswith(sys.prefix):
        for name in [name for name in sys.modules if name.partition(".")[0] == "IPython"]:
            del sys.modules[name]


class Shell:
    """What ``get_ipython()`` returns: those methods of IPython's shell that user code calls."""

    def __init__(self, display: Display, namespace: dict[str, Any]) -> None:
        self.user_ns = self.user_global_ns = namespace
        self.config = _Config()
        self.display_pub = self.events = self.display_formatter = self
        self.formatters: dict[str, Any] = _Registry()
        self.publish = display.show_best
        self._display = display
        self._timed: tuple[float, float, float] | None = None
        self._captured: tuple[str, Any, Any, io.StringIO, io.StringIO] | None = None

    def get_ipython(self) -> Shell:
        return self

    def show(self, value: object) -> None:
        """Show the value of an expression that is not the last one."""
        if value is not None:
            self._display.display(value)

    def shows_all(self) -> bool:
        """Whether each expression's value is shown, and not only that of the last one."""
        module = sys.modules.get("IPython.core.interactiveshell")
        shell = getattr(module, "InteractiveShell", None)
        settings = (each.__dict__.get("ast_node_interactivity") for each in (self, shell) if each is not None)
        return any(type(each) is str and each == "all" for each in settings)

    def register(self, *_: Any, **__: Any) -> None:
        """Accept a callback for an event, none of which happens here."""

    unregister = clear_output = set_parent = enable_gui = enable_matplotlib = register

    # -- magics and commands

    def _run(self, cell: str) -> Any:
        code = Cell(cell, WORKSPACE).text.strip().removesuffix(";")
        if is_expression(code):
            return eval(code, self.user_ns)
        exec(code, self.user_ns)
        return None

    def run_line_magic(self, magic_name: str, line: str = "", *_: Any, **__: Any) -> Any:
        return self._run(f"%{magic_name} {line}")

    def magic(self, line: str) -> Any:
        return self._run("%" + line)

    def run_cell_magic(self, magic_name: str, line: str, cell: str) -> Any:
        return self._run(f"%%{magic_name} {line}\n{cell}")

    def system(self, command: str) -> None:
        self._run("!" + command)

    def getoutput(self, command: str, *_: Any, **__: Any) -> list[str]:
        import subprocess

        return subprocess.getoutput(command).splitlines()

    def run_cell(self, raw_cell: str, *_: Any, **__: Any) -> Any:
        return self._run(raw_cell)

    ex = ev = run_cell

    def field(self, value: Callable[[], Any], written: str) -> str:
        """What replaces a field of a shell command: its *value*, or, if it has none, the text as *written*."""
        try:
            return str(value())
        except Exception:
            return written

    def run_file(self, path: str, arguments: list[str]) -> None:
        """Execute a file as a script, and keep what it defines."""
        import runpy

        before = sys.argv
        sys.argv = [path, *arguments]
        try:
            found = runpy.run_path(path, run_name="__main__")
        finally:
            sys.argv = before
        self.user_ns.update({name: value for name, value in found.items() if not name.startswith("__")})

    def pip(self, arguments: list[str]) -> None:
        """Execute a pip command. Packages to install have been installed before the code was run."""
        from importlib import metadata
        from itertools import pairwise

        command = arguments[0] if arguments else ""
        if command in ("list", "freeze"):
            found = {str(each.name): str(each.version) for each in metadata.distributions()}
            for name, version in sorted(found.items()):
                print(f"{name}=={version}")  # noqa: T201
        elif command == "show":
            for name in arguments[1:]:
                print(f"Name: {name}\nVersion: {metadata.version(name)}")  # noqa: T201
        elif command == "install":
            for option, value in pairwise(arguments):
                if option == "-r":
                    print(f"There was no file {value} in {WORKSPACE} when this call began: write it first.")  # noqa: T201
                elif option in ("-e", "--editable"):
                    print(f"pip install {option} is not available here")  # noqa: T201
        else:
            print(f"pip {command} is not available here; packages come in with install_package")  # noqa: T201

    # -- time

    def clock(self) -> tuple[float, float, float]:
        spent = os.times()
        return time.perf_counter(), spent.user + spent.children_user, spent.system + spent.children_system

    def begin_time(self) -> None:
        self._timed = self.clock()

    def time_since(self, began: tuple[float, float, float], value: Any = None) -> Any:
        """Print the time since *began*; returns *value*."""
        wall, user, system = (now - then for now, then in zip(self.clock(), began, strict=True))
        print(f"CPU times: user {_span(user)}, sys: {_span(system)}, total: {_span(user + system)}")  # noqa: T201
        print(f"Wall time: {_span(wall)}")  # noqa: T201
        return value

    @contextmanager
    def timing(self) -> Generator[None]:
        began = self.clock()
        try:
            yield
        finally:
            self.time_since(began)

    def once(self) -> Generator[int]:
        """One turn of a loop whose body is to be timed, as ``%time`` does it."""
        began = self.clock()
        yield 0
        self.time_since(began)

    def loops(self, options: str) -> Generator[int]:
        """Yield numbers for a loop whose body is measured, as by ``%timeit``."""
        given = dict(re.findall(r"-([nr])\s*(\d+)", options))
        number, repeat = int(given.get("n", 0)), int(given.get("r", 7))
        if not number:
            number, took = 1, 0.0
            while took < _LEAST_SECONDS and number < 10**8:
                began = time.perf_counter()
                yield from range(number)
                took = time.perf_counter() - began
                number *= 10 if took < _LEAST_SECONDS else 1
        runs: list[float] = []
        first = time.perf_counter()
        while len(runs) < repeat and (not runs or time.perf_counter() - first < _MOST_SECONDS):
            began = time.perf_counter()
            yield from range(number)
            runs.append((time.perf_counter() - began) / number)
        self.user_ns.pop("_timeit", None)
        mean = sum(runs) / len(runs)
        deviation = (sum((run - mean) ** 2 for run in runs) / len(runs)) ** 0.5
        times = f"{len(runs)} run{'s' * (len(runs) != 1)}, {number:,} loop{'s' * (number != 1)} each"
        print(f"{_span(mean)} ± {_span(deviation)} per loop (mean ± std. dev. of {times})")  # noqa: T201

    # -- cells

    def begin_capture(self, options: str) -> None:
        names = [word for word in options.split() if not word.startswith("-")]
        out, err = io.StringIO(), io.StringIO()
        self._captured = (names[0] if names else "", sys.stdout, sys.stderr, out, err)
        sys.stdout, sys.stderr = out, err

    def end_cell(self) -> None:
        """End what the magics of the cell have begun."""
        if self._captured is not None:
            name, sys.stdout, sys.stderr, out, err = self._captured
            self._captured = None
            if name:
                self.user_ns[name] = Captured(out.getvalue(), err.getvalue())
        if self._timed is not None:
            began, self._timed = self._timed, None
            self.time_since(began)


class Captured:
    """What a cell under ``%%capture`` has written."""

    def __init__(self, stdout: str, stderr: str) -> None:
        self.stdout = stdout
        self.stderr = stderr

    def show(self) -> None:
        sys.stdout.write(self.stdout)
        sys.stderr.write(self.stderr)

    __call__ = show

    def __str__(self) -> str:
        return self.stdout


class _Config(dict[str, object]):
    """IPython's settings: empty, at any depth."""

    def __getattr__(self, _: str) -> _Config:
        return _Config()


class _Registry(dict[str, "_Registry"]):
    """Formatters that libraries register, which are not used."""

    def __missing__(self, _: str) -> _Registry:
        return self

    def for_type(self, *_: Any, **__: Any) -> None:
        """Accept a formatter."""

    for_type_by_name = for_type


def _span(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "μs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
