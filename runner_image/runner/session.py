"""The namespace that lives from run to run, and the execution of one run in it, as ``python`` would execute a file."""

from __future__ import annotations
import __future__

import _ast as ast  # the nodes alone: the rest takes long to import, and a first answer waits
import builtins
import gc
import importlib
import io
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import StringIO
from signal import getsignal
from signal import signal as set_handler
from sys import getrecursionlimit, setrecursionlimit

from mcp_agentrun.notebook import Cell, translate
from mcp_agentrun.wire.messages import PROBE, Script

from . import error_reports, import_hooks, interpreter_frames, library_patches, notebook_shell, program_end, tracebacks
from .children import SpawnedProcesses
from .display import Display
from .event_loop import EventLoop, evaluate, is_coroutine
from .linux import limits
from .main_module import MainModule, pretend_plain_start
from .prelude import Any, __builtins__
from .session_packages import SessionPackages
from .user_calls import UserCalls

WORKSPACE = "/workspace"
_ALL_SIGNALS = signal.valid_signals() - {signal.SIGINT}
_MISSING_AT_THE_END = ("expected ", "unexpected unindent")
_FUTURES = sum({int(getattr(__future__, name).compiler_flag) for name in __future__.all_feature_names})

_compile_tree: Any = compile
_pthread_sigmask: Any = importlib.import_module("_signal").pthread_sigmask  # without a frame of its own
_PLAIN = frozenset((bool, int, float, complex, str, bytes))
_python_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage]
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]
_displayhook = sys.__displayhook__
_LEAST_LIMIT = 200  # of recursion, for the runner to show a value


class Session:
    """The interpreter of one session."""

    def __init__(self) -> None:
        self._main = MainModule()
        for name in [name for name in sys.modules if name.partition(".")[0] in ("runner", "mcp_agentrun")]:
            del sys.modules[name]  # user code may have a module of that name
        sys.path[0] = WORKSPACE
        pretend_plain_start()
        os.chdir(WORKSPACE)
        random.seed()
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()  # or every worker of one zygote would draw the same numbers
        self.display = Display()
        builtins.__dict__["display"] = self.display.display
        self._shell = notebook_shell.Shell(self.display, self._main.namespace)
        self._calls = UserCalls(self._main.namespace)
        self._loop = EventLoop(self._calls)
        self._spawned = SpawnedProcesses(self._main)
        self._packages = SessionPackages()
        import_hooks.patch_on_import(
            {
                **library_patches.patches(self.display),
                **notebook_shell.patches(self.display, self._shell),
                "asyncio.tasks": self._loop.patch_tasks,
                "warnings": tracebacks.hide_from_warnings,
            }
        )
        sys.unraisablehook = sys.__unraisablehook__ = tracebacks.unraisable  # pyright: ignore
        self._interrupt_handler: Any = signal.default_int_handler
        self._blocked: set[int] = set()
        self._value: str | None = None
        self._script: Script | None = None
        self._changed = True
        self._is_prepared = False
        self._packages.imported()  # fills a cache while nobody waits
        limits.is_process_limit_reached()  # don't count what was refused before this session

    def run(self, number: int, code: str, packages: str | None, script: Script | None = None) -> dict[str, Any]:
        """Execute *code*; what it prints, and the traceback of what it raises, go where Python sends them.

        :param script: the code is a program, not a cell: no value is shown, and only plain Python is accepted.
        :returns: the fields of a `RunReport` from ``ok`` on. Pictures are in `display`.
        """
        filename = f"<run-{number}>" if script is None else script.filename
        self._script = script
        self._loop.note_process()
        self._value = None
        self._changed = True
        self.display.begin(number, filename, code.count("\n") + 1)
        if self._packages.use(packages):
            notebook_shell.forget_substitute(self._packages.has("IPython"))
        report: dict[str, Any] = {"ok": True, "exit_code": 0, "error": None}
        try:
            try:
                failure = self._failure_of(code, filename)
                # User code is not called while an exception is being handled, which it could see.
                if failure is not None:
                    report["exit_code"] = tracebacks.end_with(failure, self._calls.alone)
                    if report["exit_code"] or not issubclass(type(failure), SystemExit):
                        report.update(ok=False, error=error_reports.describe(failure, filename))
                if number == PROBE:
                    unflushed = None  # the user's streams may hang, and the probe is of the process only
                else:
                    if script is not None and script.ends_session:
                        program_end.wait_for_threads(self._calls)
                    self.display.show_figures(close=True)
                    if script is not None and script.ends_session:
                        program_end.finalize(self._calls, self._main.namespace)
                    unflushed = tracebacks.flush(self._calls.alone)
                if unflushed is not None and not report["exit_code"]:
                    error = error_reports.describe(unflushed, filename)
                    report.update(ok=False, exit_code=tracebacks.NOT_FLUSHED, error=error)
            finally:
                # The user's handlers of other signals wait for the next run as well.
                self._blocked = _pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
                self._interrupt_handler = getsignal(signal.SIGINT)
                set_handler(signal.SIGINT, signal.SIG_IGN)
        except BaseException as error:  # an interrupt, or raised by a handler of the user's, while the run ends
            set_handler(signal.SIGINT, signal.SIG_IGN)
            if report["ok"]:
                if type(error) is not KeyboardInterrupt:
                    with suppress(BaseException):
                        tracebacks.end_with(error, self._calls.alone)
                report.update(ok=False, exit_code=1, error=error_reports.describe(error, filename))
        report["value"] = self._value
        report["imported"] = self._packages.imported()
        report["changed"] = self._changed or not report["ok"] or len(_python_threads()) > 1
        return report

    def _failure_of(self, code: str, filename: str) -> BaseException | None:
        """Execute *code*; returns what it raises."""
        try:
            # Only from here until they are reset may an interrupt or a handler of the user's raise.
            set_handler(signal.SIGINT, self._interrupt_handler)
            _pthread_sigmask(signal.SIG_SETMASK, self._blocked)
            try:
                self._execute(code, filename)
            finally:
                self._shell.end_cell()
        except BaseException as error:
            return error
        return None

    def _execute(self, code: str, filename: str) -> None:
        lines = StringIO(code, newline=None).readlines()
        self._main.set_source(code, filename, lines, self._script)
        is_cell = self._script is None
        tree, cell = _parse(code, filename, lines, is_cell=is_cell)
        if cell is not None:
            code, lines = cell.text, [line + "\n" for line in cell.lines]
        if "get_ipython" in code:
            self._main.namespace.setdefault("get_ipython", self._shell.get_ipython)
        self._changed = not self._only_prints(tree)
        if self._changed:
            self._note_definitions(tree, code, filename)
        last = tree.body[-1] if is_cell and tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if is_cell and self._shell.shows_all():
            self._show_all(tree, lines)
        if last is not None and (_is_silenced(last, lines) or self._is_print(last.value)):
            last = None
        if cell is not None:
            cell.restore_columns(tree)
        if last is not None:
            tree.body.pop()
        value = self._evaluate(tree, None if last is None else last.value, filename)
        if last is not None:
            self._show(value, filename, last.value.lineno)
        self._loop.step()

    def _evaluate(self, tree: ast.Module, last: ast.expr | None, filename: str) -> Any:
        """Execute *tree*, and return the value of the expression *last*."""
        if not self._is_prepared:
            self._is_prepared = True
            interpreter_frames.discount(interpreter_frames.depth() + 1)
            interpreter_frames.alone(_getframe(), id)  # so that it searches for the pointer once
            gc.freeze()  # or `gc.get_objects` and collections of user code would find the runner's objects
        namespace = self._main.namespace
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if self._script is None else 0
        body = compile(tree, filename, "exec", flags, dont_inherit=True)
        expression: Any = None
        if last is not None and not isinstance(last, ast.Constant):
            flags |= body.co_flags & _FUTURES
            expression = _compile_tree(ast.Expression(last), filename, "eval", flags, dont_inherit=True)
        if is_coroutine(body, expression):
            value = self._loop.run(evaluate(body, expression, namespace))
        else:
            self._calls.alone(eval, body, namespace, traced=True)
            value = None if expression is None else self._calls.alone(eval, expression, namespace, traced=True)
        return last.value if isinstance(last, ast.Constant) else value

    def _show(self, value: object, filename: str, line: int) -> None:
        """Show *value* as the last one of a run, with enough recursion left for the runner."""
        call = partial(self._calls.at_line, filename, line)
        hook = getattr(sys, "displayhook", _displayhook)
        limit = getrecursionlimit()
        try:
            if limit < _LEAST_LIMIT:
                setrecursionlimit(_LEAST_LIMIT)
            if hook is _displayhook:
                self._show_value(value, call)
            else:
                call(hook, value)
        finally:
            if limit < _LEAST_LIMIT:
                setrecursionlimit(limit)

    def _show_value(self, value: object, call: Callable[..., Any]) -> None:
        """Write a last expression's value as the interactive interpreter does, and keep it as ``_``."""
        if value is None:
            return
        self._calls.alone(builtins.__dict__.__setitem__, "_", None)  # which may call the finalizer of an object
        text = self.display.show(value, call)
        self._value = text[: error_reports.CLIP]
        builtins.__dict__["_"] = value

    def _show_all(self, tree: ast.Module, lines: list[str]) -> None:
        """Have each expression of *tree* show its value; the last one does so anyway."""
        self._main.namespace.setdefault("get_ipython", self._shell.get_ipython)
        for statement in tree.body[:-1]:
            if isinstance(statement, ast.Expr) and not _is_silenced(statement, lines):
                statement.value = _shown(statement.value)

    def _note_definitions(self, tree: ast.Module, code: str, filename: str) -> None:
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                self._main.note_class(statement.name, filename)
        self._spawned.note(filename, code)

    def _only_prints(self, tree: ast.Module) -> bool:
        """Whether *tree* only prints constants and variables of built-in types, and can't change a variable."""
        if type(sys.stdout) is not io.TextIOWrapper:
            return False
        calls = [each.value for each in tree.body if isinstance(each, ast.Expr) and self._is_print(each.value)]
        return len(calls) == len(tree.body) and all(map(self._has_plain_arguments, calls))

    def _has_plain_arguments(self, call: Any) -> bool:
        """Whether the arguments of *call* are constants and variables of built-in types."""
        variables = (each.id for each in call.args if isinstance(each, ast.Name))
        return (
            not call.keywords
            and all(isinstance(each, (ast.Constant, ast.Name)) for each in call.args)
            and all(type(self._main.namespace.get(name)) in _PLAIN for name in variables)
        )

    def _is_print(self, expression: ast.expr) -> bool:
        """Whether *expression* is a call of `print` itself, which has no value to be shown."""
        match expression:
            case ast.Call(ast.Name("print")):
                namespace, built_in = self._main.namespace, builtins.__dict__.get("print")
                return "print" not in namespace and namespace.get("__builtins__") is builtins and built_in is print
            case _:
                return False


def _parse(code: str, filename: str, lines: list[str], *, is_cell: bool) -> tuple[Any, Cell | None]:
    """The tree of *code*, and the cell that it was translated from, if it is not plain Python."""
    flags = ast.PyCF_ONLY_AST | (ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_cell else 0)
    try:
        return compile(code, filename, "exec", flags, dont_inherit=True), None
    except SyntaxError as error:
        failure = error
    try:
        cell = translate(code, WORKSPACE) if is_cell else None
        if cell is not None:
            return compile(cell.text, filename, "exec", flags, dont_inherit=True), cell
    except SyntaxError as error:
        failure = error
        failure.filename = filename
    if failure.end_offset == -1 and failure.lineno == len(lines) and failure.msg.startswith(_MISSING_AT_THE_END):
        failure.offset = 0  # in a file, the parser does not point at it
    raise failure.with_traceback(None)


def _shown(value: ast.expr) -> ast.expr:
    """An expression that shows *value*."""
    place = {name: getattr(value, name) for name in value._attributes}
    shell = ast.Call(ast.Name("get_ipython", ast.Load(), **place), [], [], **place)
    return ast.Call(ast.Attribute(shell, "show", ast.Load(), **place), [value], [], **place)


def _is_silenced(last: ast.Expr, lines: list[str]) -> bool:
    """Whether a ``;`` follows the last expression."""
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    line = lines[last.end_lineno - 1] if last.end_lineno <= len(lines) else ""
    rest = line if line.isascii() else line.encode("utf-8", "surrogatepass").decode("latin-1")
    return rest[last.end_col_offset :].lstrip(" \t)").startswith(";")
