"""The namespace that lives from run to run, and the execution of one run in it, as ``python`` would execute a file."""

from __future__ import annotations
import __future__

import _ast as ast  # the nodes alone: what is around them takes long to import, and a first answer waits
import builtins
import collections
import contextlib
import functools
import gc
import importlib
import io
import linecache
import marshal
import os
import random
import signal
import sys
import types
from _operator import is_
from _thread import get_ident

from mcp_agentrun.notebook import Cell, translate
from mcp_agentrun.wire.messages import LONGEST_NAME, MOST_NAMES, PROBE

from . import failures, imports, interpreter_frames, jupyter, linux, shows
from .display import Items

__builtins__ = dict(vars(builtins))  # of the functions below: user code may change the real ones

TYPE_CHECKING = False  # importing `typing` takes 2 ms, for which a first answer would wait
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from mcp_agentrun.wire.messages import Script

WORKSPACE = "/workspace"
_ALL_SIGNALS = signal.valid_signals() - {signal.SIGINT}
_SOURCES = 200  # runs whose definitions a spawned process gets
_MISSING_AT_THE_END = ("expected ", "unexpected unindent")
_FUTURES = sum({int(getattr(__future__, name).compiler_flag) for name in __future__.all_feature_names})

# User code may replace any of these where they come from; the runner goes on with its own.
_print = print
_get_thread = get_ident
_getpid = os.getpid
_compile = compile
_compile_tree: Any = compile
_eval = eval
_StringIO = io.StringIO
_partial: Any = functools.partial
_wraps: Any = functools.wraps
_suppress = contextlib.suppress
_signal, _get_handler = signal.signal, signal.getsignal
_mask_signals: Any = importlib.import_module("_signal").pthread_sigmask  # with no frame of its own
_gettrace, _settrace, _getprofile, _setprofile = sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile
_monitoring: Any = getattr(sys, "monitoring", None)  # since Python 3.12
_TOOLS = range(6 if _monitoring is not None else 0)
_get_tool: Any = getattr(_monitoring, "get_tool", None)
_get_events: Any = getattr(_monitoring, "get_events", None)
_set_events: Any = getattr(_monitoring, "set_events", None)
_PLAIN = frozenset((bool, int, float, complex, str, bytes))
_listdir, _modules = os.listdir, sys.modules
_python_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage]
_getframe = sys._getframe  # pyright: ignore[reportPrivateUsage]
_STEPS = 10  # that tasks may take at the end of a run
_IGNORING: tuple[Any, ...] = (is_, (), {}, None)  # of a `partial` that is given two arguments: do nothing
_CO_COROUTINE = 0x80  # of `inspect`
_displayhook = sys.__displayhook__
_get_limit, _set_limit = sys.getrecursionlimit, sys.setrecursionlimit
_LEAST_LIMIT = 200
_CALL = failures.without_columns(_compile("call(*values)", "", "eval"))
_HELPERS = (
    ("resource_tracker", "_resource_tracker", "_pid", "_fd"),
    ("forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
)
_Loader: Any = type(importlib.__spec__.loader)  # that of files  # pyright: ignore[reportUnknownVariableType]


class Session:
    """See the module."""

    def __init__(self) -> None:
        self._main = types.ModuleType("__main__")
        self._filename: str | None = None
        self._loader = _Loader("__main__", "")
        # As in a script, in that order, and with a file's name that only our own tables know.
        self._main.__dict__.update(
            __loader__=self._loader, __annotations__={}, __builtins__=builtins, __file__=None, __cached__=None
        )
        sys.modules["__main__"] = self._main
        for name in [name for name in sys.modules if name.partition(".")[0] in ("runner", "mcp_agentrun")]:
            del sys.modules[name]  # a module of the session's own may have that name
        sys.path[0] = WORKSPACE
        self._argv = sys.argv = [""]
        _pretend_plain_start()
        os.chdir(WORKSPACE)
        random.seed()
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()  # or every worker of one zygote would draw the same numbers
        self.items = Items()
        builtins.__dict__["display"] = self.items.display
        self._shell = jupyter.Shell(self.items, self._main.__dict__)
        self._hooks: list[tuple[Any, Any]] = []
        """Audit hooks of the code's: what Python calls for each, and it itself."""
        self._add_hook = sys.addaudithook
        sys.addaudithook = self._add_audit_hook
        imports.change_when_imported(
            {
                **shows.changes(self.items),
                **jupyter.changes(self.items, self._shell),
                "asyncio.tasks": self._change_tasks,
                "warnings": failures.hide_from_warnings,
            }
        )
        self._getfile_of_python: Any = None
        sys.unraisablehook = sys.__unraisablehook__ = failures.unraisable  # pyright: ignore
        self._interrupt_handler: Any = signal.default_int_handler
        self._blocked: set[int] = set()
        self._packages: str | None = None
        self._own: frozenset[str] = frozenset()
        """Names that can be imported from the session's packages."""
        self._image = _modules_at(next((path for path in sys.path if path.endswith("site-packages")), None))
        self._imported: list[str] = []
        self._modules_seen = 0
        self._value: str | None = None
        self._script: Script | None = None
        self._changed = True
        self._classes: dict[str, str] = {}
        self._sources: list[tuple[str, str]] = []
        self._loop: Any = None
        self._thread = get_ident()
        self._process = _getpid()
        self._is_level = False
        self._note_imported()  # here, where nobody waits for it
        linux.no_more_processes()  # what was refused until now is nothing of this session's
        self._tracing: list[functools.partial[Any]] = []

    def run(self, number: int, code: str, packages: str | None, script: Script | None = None) -> dict[str, Any]:
        """Execute *code*; what it prints, and the traceback of what it raises, go where Python sends them.

        :param script: it is a program, and not a cell: no value is shown, and only plain Python is accepted.
        :returns: the report: ``ok``, ``exit_code``, ``value`` (text of the last expression's value, or None),
            ``error`` (``type``, ``message``, ``line``; or None), ``imported`` (top-level modules, of the session's and
            the image's packages) and ``changed``, false where the session is certainly as it was before. What is to be
            shown beside text is in `items`.
        """
        filename = f"<run-{number}>" if script is None else script.filename
        self._script = script
        self._process = _getpid()  # a copy goes on in another one
        self._value = None
        self._changed = True
        self.items.begin(number, filename, code.count("\n") + 1)
        self._use_packages(packages)
        report: dict[str, Any] = {"ok": True, "exit_code": 0, "error": None}
        try:
            failure: BaseException | None = None
            try:
                try:
                    # Only from here to the handler's reset may an interrupt raise, or a handler of the user's.
                    _signal(signal.SIGINT, self._interrupt_handler)
                    _mask_signals(signal.SIG_SETMASK, self._blocked)
                    try:
                        self._execute(code, filename)
                    finally:
                        self._shell.end_cell()
                except BaseException as error:
                    failure = error
                # Nothing of the user's is called while an exception is being handled: it would find that.
                if failure is not None:
                    report["exit_code"] = failures.end_with(failure, self._alone)
                    if report["exit_code"] or not issubclass(type(failure), SystemExit):
                        report.update(ok=False, error=failures.describe(failure, filename))
                if number == PROBE:
                    unflushed = None  # streams of the user's may hang, and the probe is of the process alone
                else:
                    self.items.show_figures(close=True)
                    unflushed = failures.flush(self._alone)
                if unflushed is not None and not report["exit_code"]:
                    error = failures.describe(unflushed, filename)
                    report.update(ok=False, exit_code=failures.NOT_FLUSHED, error=error)
            finally:
                # Handlers of the user's for other signals wait for the next run as well.
                self._blocked = _mask_signals(signal.SIG_BLOCK, _ALL_SIGNALS)
                self._interrupt_handler = _get_handler(signal.SIGINT)
                _signal(signal.SIGINT, signal.SIG_IGN)
        except BaseException as error:  # an interrupt, or what a handler of the user's raises, while it is wound up
            _signal(signal.SIGINT, signal.SIG_IGN)
            if report["ok"]:
                if type(error) is not KeyboardInterrupt:
                    with _suppress(BaseException):
                        failures.end_with(error, self._alone)
                report.update(ok=False, exit_code=1, error=failures.describe(error, filename))
        report["value"] = self._value
        report["imported"] = self._note_imported()
        report["changed"] = self._changed or not report["ok"] or len(_python_threads()) > 1
        return report

    def _execute(self, code: str, filename: str) -> None:
        lines = _StringIO(code, newline=None).readlines()
        self._publish(code, filename, lines)
        namespace = self._main.__dict__
        if self._getfile_of_python is None and self._classes:
            if "inspect" in code:
                with _suppress(Exception):
                    importlib.import_module("inspect")
            self._teach_inspect()
        is_cell = self._script is None
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_cell else 0
        tree, cell = self._parse(code, filename, lines, flags)
        if cell is not None:
            code, lines = cell.text, [line + "\n" for line in cell.lines]
        if "get_ipython" in code:
            namespace.setdefault("get_ipython", self._shell.get_ipython)
        self._changed = not self._only_prints(tree)
        if self._changed:
            self._note_definitions(tree, code, filename)
        last = tree.body[-1] if is_cell and tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if is_cell and self._shell.shows_all():
            namespace.setdefault("get_ipython", self._shell.get_ipython)
            for statement in tree.body[:-1]:
                if isinstance(statement, ast.Expr) and not _is_silenced(statement, lines):
                    statement.value = _shown(statement.value)
        is_shown = last is not None and not _is_silenced(last, lines) and not self._is_print(last.value)
        if cell is not None:
            cell.restore_columns(tree)
        if is_shown:
            tree.body.pop()
        else:
            last = None
        if not self._is_level:
            self._is_level = True
            interpreter_frames.discount(interpreter_frames.depth() + 1)
            interpreter_frames.alone(_getframe(), id)  # which finds out once how that is done
            gc.freeze()  # or a collection of the code's would find what is ours
        body = _compile(tree, filename, "exec", flags, dont_inherit=True)
        expression: Any = None
        if last is not None and not isinstance(last.value, ast.Constant):
            flags |= body.co_flags & _FUTURES
            expression = _compile_tree(ast.Expression(last.value), filename, "eval", flags, dont_inherit=True)
        if (body.co_flags | getattr(expression, "co_flags", 0)) & _CO_COROUTINE:
            value = self._await(_run_awaiting(body, expression, namespace))
        else:
            self._alone(_eval, body, namespace, traced=True)
            value = None if expression is None else self._alone(_eval, expression, namespace, traced=True)
        if last is not None:
            shown = last.value.value if isinstance(last.value, ast.Constant) else value
            self._show(shown, filename, last.value.lineno)
        if self._loop is not None:
            self._step_tasks()

    def _publish(self, code: str, filename: str, lines: list[str]) -> None:
        """Let tracebacks, `inspect` and the code itself find what is run, as they find a script's file."""

        def get_source(_name: str) -> str:
            return code

        with _suppress(Exception):
            failures.source = (len(code), None, _with_newline(lines), filename)
            linecache.cache[filename] = failures.source
        namespace = self._main.__dict__
        script = self._script
        if script is not None or getattr(sys, "argv", None) == self._argv:
            self._argv = sys.argv = [filename] if script is None else [*script.argv]
            sys.orig_argv = [sys.executable, "-u", *self._argv]
        if script is not None or namespace.get("__file__") == self._filename:
            namespace["__file__"] = self._filename = filename
        if script is not None and not script.is_file:
            del namespace["__file__"]
        namespace["__doc__"] = None
        self._loader.path = filename
        self._loader.get_source = get_source
        sys.__dict__.pop("__warningregistry__", None)
        namespace.pop("__warningregistry__", None)  # or a warning of an earlier run would silence this one's

    def _parse(self, code: str, filename: str, lines: list[str], flags: int) -> tuple[Any, Cell | None]:
        """The tree of *code*; and the cell that it is, where it is Python only as such."""
        flags |= ast.PyCF_ONLY_AST
        try:
            return _compile(code, filename, "exec", flags, dont_inherit=True), None
        except SyntaxError as error:
            failure = error
        try:
            cell = translate(code, WORKSPACE) if self._script is None else None
            if cell is not None:
                return _compile(cell.text, filename, "exec", flags, dont_inherit=True), cell
        except SyntaxError as error:
            failure = error
            failure.filename = filename
        if failure.end_offset == -1 and failure.lineno == len(lines) and failure.msg.startswith(_MISSING_AT_THE_END):
            failure.offset = 0  # in a file, the parser does not point at it
        raise failure.with_traceback(None)

    def _show(self, value: object, filename: str, line: int) -> None:
        """Show *value* as the last one of a run, with room for our own frames however little the code has left."""
        call = _partial(self._call_at, filename, line)
        hook = getattr(sys, "displayhook", _displayhook)
        limit = _get_limit()
        try:
            if limit < _LEAST_LIMIT:
                _set_limit(_LEAST_LIMIT)
            if hook is _displayhook:
                self._display(value, call)
            else:
                call(hook, value)
        finally:
            if limit < _LEAST_LIMIT:
                _set_limit(limit)

    def _call_at(self, filename: str, line: int, function: Any, *values: object) -> Any:
        """Call *function* with *values* as if code of that line did, so that tracebacks and warnings have a place."""
        code = _CALL.replace(co_filename=filename, co_firstlineno=line)
        return self._alone(_eval, code, self._main.__dict__, {"call": function, "values": values})

    def _alone(self, function: Any, *arguments: Any, traced: bool = False) -> Any:
        """Call *function* with nothing of ours below it. Whatever traces or profiles then is held until the next call
        that is *traced*.
        """
        before: list[functools.partial[Any]] = []
        if traced:
            before, self._tracing = self._tracing, []
        for call, hook in self._hooks:
            state: tuple[Any, ...] = (_hear_begin, (call, hook), {}, None) if function is _eval else _calling(hook)
            before.append(_partial(call.__setstate__, state))
        calls, hide = interpreter_frames.alone(_getframe(), function, *arguments, before=before)
        try:
            return calls.pop()(*hide)
        finally:
            for call, _ in self._hooks:
                call.__setstate__(_IGNORING)
            # No call of Python's before it is off.
            trace, profile = _gettrace(), _getprofile()
            if trace is not None:
                _settrace(None)
                self._tracing.append(_partial(_settrace, trace))
            if profile is not None:
                _setprofile(None)
                self._tracing.append(_partial(_setprofile, profile))
            for tool in _TOOLS:
                if _get_tool(tool) is not None and (events := _get_events(tool)):
                    _set_events(tool, 0)
                    self._tracing.append(_partial(_set_events, tool, events))

    def _add_audit_hook(self, hook: Any) -> None:
        """Add an audit hook that sees what the code does, and nothing that the runner does."""
        call = _partial(hook)
        if hasattr(hook, "__cantrace__"):
            call.__cantrace__ = hook.__cantrace__
        self._add_hook(call)
        self._hooks.append((call, hook))

    def _await(self, coroutine: Any) -> Any:
        """Run a top-level ``await`` on the session's own event loop, whose tasks go on with the next one."""
        loop = self._event_loop()
        task = loop.create_task(coroutine)
        try:
            return self._alone(loop.run_until_complete, task, traced=True)
        except BaseException:
            if not task.done():
                task.cancel()
                with _suppress(BaseException):
                    self._alone(loop.run_until_complete, task)
            raise

    def _event_loop(self) -> Any:
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        return self._loop

    def _change_tasks(self, tasks: Any) -> None:
        """Let `asyncio.create_task`, and whatever asks for the current loop, work outside of coroutines, too: as in a
        notebook, on the session's own loop.
        """
        original: Any = tasks.create_task
        policy: Any = getattr(tasks.events, "BaseDefaultEventLoopPolicy", None)  # until Python 3.13

        @_wraps(original)
        def create_task(coro: Any, **options: Any) -> Any:
            if tasks.events._get_running_loop() is not None or not self._is_main():
                return original(coro, **options)
            return self._event_loop().create_task(coro, **options)

        if policy is not None:
            current: Any = policy.get_event_loop

            @_wraps(current)
            def get_event_loop(policy: Any) -> Any:
                return self._event_loop() if policy._local._loop is None and self._is_main() else current(policy)

            policy.get_event_loop = get_event_loop
        tasks.create_task = create_task
        if (package := sys.modules.get("asyncio")) is not None:
            package.__dict__["create_task"] = create_task

    def _is_main(self) -> bool:
        """Whether this is the thread of the runs, and no process that the code has forked."""
        return _get_thread() == self._thread and _getpid() == self._process

    def _step_tasks(self) -> None:
        """Let the tasks of the session's loop begin, or go on as far as they can without waiting."""
        import asyncio

        if self._loop is not None and not self._loop.is_closed():
            for _ in range(_STEPS):
                if not asyncio.all_tasks(self._loop):
                    break
                self._await(asyncio.sleep(0))

    def _note_definitions(self, tree: ast.Module, code: str, filename: str) -> None:
        """Keep where classes are defined, for `inspect`, and what a spawned process needs of the runs so far."""
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                self._classes[statement.name] = filename
        self._sources.append((filename, code))
        del self._sources[:-_SOURCES]
        spawn = sys.modules.get("multiprocessing.spawn")
        if (spawn is None and "multiprocessing" in code) or "ProcessPool" in code:
            spawn = importlib.import_module("multiprocessing.spawn")
        if spawn is not None and not hasattr(spawn, "_agentrun"):
            spawn.__dict__["_agentrun"] = original = spawn.__dict__["get_preparation_data"]

            def prepare(name: str) -> dict[str, Any]:
                return self._prepared(original(name))

            spawn.__dict__["get_preparation_data"] = prepare

    def _prepared(self, data: dict[str, Any]) -> dict[str, Any]:
        """What a spawned process is told, with a file that defines what ``__main__`` has."""
        if "init_main_from_name" not in data and self._main.__dict__.get("__file__") in (self._filename, None):
            path = f"/tmp/.agentrun-{os.getpid()}.py"
            magic: bytes = importlib.import_module("importlib.util").MAGIC_NUMBER
            with open(path, "wb") as file:
                file.write(magic + bytes(12) + marshal.dumps(_for_spawned(self._sources)))
            data["init_main_from_path"] = path
        return data

    def _teach_inspect(self) -> None:
        """Have `inspect` find the classes that runs have defined, as soon as it is there."""
        inspect = sys.modules.get("inspect")
        if inspect is not None and self._getfile_of_python is None and hasattr(inspect, "getfile"):
            self._getfile_of_python = inspect.__dict__["getfile"]
            inspect.__dict__["getfile"] = self._getfile

    def _getfile(self, object: Any) -> Any:
        """`inspect.getfile`, which knows the classes that runs have defined."""
        if isinstance(object, type) and object.__module__ == "__main__":
            name = object.__qualname__.partition(".")[0]
            if name in self._classes:
                return self._classes[name]
        return self._getfile_of_python(object)

    def _only_prints(self, tree: ast.Module) -> bool:
        """Whether *tree* does nothing but print constants and variables of built-in types, so that no variable can
        have another value afterwards.
        """
        if type(sys.stdout) is not io.TextIOWrapper:
            return False
        namespace = self._main.__dict__
        for statement in tree.body:
            match statement:
                case ast.Expr(ast.Call(_, arguments, []) as call) if self._is_print(call):
                    for argument in arguments:
                        match argument:
                            case ast.Constant():
                                pass
                            case ast.Name(name) if type(namespace.get(name)) in _PLAIN:
                                pass
                            case _:
                                return False
                case _:
                    return False
        return True

    def _is_print(self, expression: ast.expr) -> bool:
        """Whether *expression* is a call of `print` itself, which has no value to be shown."""
        match expression:
            case ast.Call(ast.Name("print")):
                namespace = self._main.__dict__
                return (
                    "print" not in namespace
                    and namespace.get("__builtins__") is builtins
                    and builtins.__dict__.get("print") is _print
                )
            case _:
                return False

    def _display(self, value: object, call: Callable[..., Any]) -> None:
        """Write a last expression's value as the interactive interpreter does, and keep it as ``_``."""
        if value is None:
            return
        self._alone(builtins.__dict__.__setitem__, "_", None)  # which may be the end of an object
        text = self.items.show(value, call)
        self._value = text[: failures.CLIP]
        builtins.__dict__["_"] = value

    def _note_imported(self) -> list[str]:
        """The top-level modules of the session's and the image's packages that have been imported."""
        if len(_modules) != self._modules_seen:
            self._modules_seen = len(_modules)
            tops = {_module_of(name) for name in _objects(_modules) if type(name) is str}
            self._imported = [name for name in tops & (self._own | self._image) if len(name) <= LONGEST_NAME][
                :MOST_NAMES
            ]
        return self._imported

    def _use_packages(self, path: str | None) -> None:
        """Put the session's packages on the path, between the standard library and the image's packages."""
        if path == self._packages:
            return
        self._modules_seen = 0
        self._own = _modules_at(path)
        jupyter.forget_stand_in("IPython" in self._own)
        before, self._packages = self._packages, path
        if before in sys.path:
            sys.path.remove(before)
        if path is not None:
            place = next(
                (
                    i
                    for i, entry in enumerate(_objects(sys.path))
                    if isinstance(entry, str) and entry.endswith("site-packages")
                ),
                len(sys.path),
            )
            sys.path.insert(place, path)
        _tell_children("PYTHONPATH", before, path)
        _tell_children("PATH", before and f"{before}/bin", path and f"{path}/bin")
        with _suppress(Exception):  # finders can be the user's
            importlib.invalidate_caches()


def _hear_begin(call: Any, hook: Any, event: str, arguments: Any) -> None:
    """What an audit hook is called by that hears what the code does: not that the runner executes it."""
    call.__setstate__(_calling(hook))
    if event != "exec":
        hook(event, arguments)


def _calling(hook: Any) -> tuple[Any, ...]:
    """The state of a `partial` that calls *hook*."""
    return hook, (), {}, None


def _with_newline(lines: list[str]) -> list[str]:
    """*lines* as `linecache` has those of a file."""
    return lines if not lines or lines[-1].endswith("\n") else [*lines[:-1], lines[-1] + "\n"]


def _modules_at(folder: str | None) -> frozenset[str]:
    """The names that can be imported from *folder*, and some more."""
    with _suppress(OSError):
        return frozenset([_module_of(entry) for entry in _listdir(folder)] if folder is not None else ())
    return frozenset()


def _module_of(entry: str) -> str:
    return entry.partition(".")[0]


def _pretend_plain_start() -> None:
    """Say of the interpreter's start what ``python -u script.py`` would say, and what `subprocess` and
    `multiprocessing` are to start others like: the runner itself is isolated from the environment.
    """
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    flags: Any = sys.flags
    kind_of_python: Any = type(flags)  # pyright: ignore[reportUnknownVariableType]
    names: tuple[str, ...] = kind_of_python.__match_args__
    kind: Any = collections.namedtuple("flags", names, module="sys")  # pyright: ignore[reportUntypedNamedTuple]
    show = kind.__repr__

    def represent(self: object) -> str:
        return f"sys.{show(self)}"

    kind.__repr__ = represent
    kind.gil = getattr(flags, "gil", 1)
    for name in ("n_fields", "n_sequence_fields", "n_unnamed_fields"):
        setattr(kind, name, getattr(flags, name))
    plain: dict[str, int] = dict.fromkeys(("isolated", "no_user_site", "no_site", "ignore_environment"), 0)
    plain |= {"safe_path": False, "dont_write_bytecode": int(sys.dont_write_bytecode)}
    sys.flags = kind(*(plain.get(name, getattr(flags, name)) for name in names))


def _tell_children(variable: str, before: str | None, now: str | None) -> None:
    """Put the folder *now* before all others in a path *variable*, in the place of *before*."""
    with _suppress(Exception):
        folders = [each for each in os.environ.get(variable, "").split(":") if each and each != before]
        os.environ[variable] = ":".join([*([now] if now else []), *folders])
        if not os.environ[variable]:
            del os.environ[variable]


def note_ended(ended: dict[int, int], spared: Collection[int]) -> None:
    """Tell the objects that `subprocess` and `multiprocessing` have of children that ended between two runs, and were
    reaped by us, how they ended: they would take it for success, or for ever think that they live.

    :param spared: descriptors that are not theirs, whatever they say.
    """
    if not ended:
        return
    with _suppress(BaseException):  # all of this is in the hands of user code
        for helper, pid, descriptor in _helpers():
            if helper[pid] in ended:  # it is started anew, without a word, when it is needed again
                if helper[descriptor] not in spared:
                    with _suppress(OSError):
                        os.close(helper[descriptor])
                helper[pid] = helper[descriptor] = None
    kinds: list[type[Any]] = []
    for name in ("subprocess", "multiprocessing.popen_fork"):
        with _suppress(BaseException):
            kinds.append(sys.modules[name].__dict__["Popen"])
    with _suppress(BaseException):
        for thing in gc.get_objects() if kinds else ():
            if issubclass(type(thing), tuple(kinds)) and thing.__dict__.get("returncode", 0) is None:
                code = ended.get(thing.__dict__.get("pid"))
                if code is not None:
                    thing.__dict__["returncode"] = code


def helpers() -> set[int]:
    """Pids of processes that `multiprocessing` has started for itself, and that are nothing a run has left running."""
    return {helper[pid] for helper, pid, _ in _helpers()}


def _helpers() -> list[tuple[dict[str, Any], str, str]]:
    """What `multiprocessing` knows of each, and the names of its pid and descriptor there."""
    found: list[tuple[dict[str, Any], str, str]] = []
    for module, thing, pid, descriptor in _HELPERS:
        with _suppress(BaseException):
            helper = sys.modules[f"multiprocessing.{module}"].__dict__[thing].__dict__
            if type(helper[pid]) is int and type(helper[descriptor]) is int:
                found.append((helper, pid, descriptor))
    return found


def _objects(things: Any) -> list[Any]:
    return [*things]


async def _run_awaiting(body: types.CodeType, expression: Any, namespace: dict[str, Any]) -> Any:
    """Execute both where there is an ``await`` in one of them; the other has the running loop as well."""
    value = _eval(body, namespace)
    if body.co_flags & _CO_COROUTINE:
        await value
    if expression is None:
        return None
    value = _eval(expression, namespace)
    return await value if expression.co_flags & _CO_COROUTINE else value


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


def _for_spawned(sources: list[tuple[str, str]]) -> types.CodeType:
    """What a spawned process executes before its own work: the last of *sources* as it is, and of those before it what
    defines names and does nothing else; each under its own name, and with its lines for tracebacks.
    """
    whole: Any = importlib.import_module("ast")
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    *earlier, (filename, code) = sources
    parts: list[bytes] = []
    for name, source in earlier:
        with _suppress(Exception):  # it was no Python
            tree = whole.parse(source, name)
            tree.body = [
                statement
                for statement in tree.body
                if isinstance(statement, kept)
                or (isinstance(statement, ast.Assign) and all(map(_is_constant, whole.walk(statement.value))))
            ]
            parts.append(marshal.dumps(_compile_tree(tree, name, "exec", dont_inherit=True)))
    lines = {name: (len(source), None, source.splitlines(keepends=True), name) for name, source in sources}
    before = [f"__file__ = {filename!r}", f"__import__('linecache').cache.update({lines!r})"]
    before += [f"exec(__import__('marshal').loads({part!r}))" for part in parts]
    tree = whole.parse(code, filename)
    first = next((at for at, statement in enumerate(tree.body) if not _is_of_the_head(statement)), len(tree.body))
    for statement in reversed(before):
        (node,) = whole.parse(statement).body
        tree.body.insert(first, node)
    return _compile_tree(tree, filename, "exec", dont_inherit=True)


def _is_of_the_head(statement: ast.stmt) -> bool:
    """Whether nothing may stand before *statement*."""
    match statement:
        case ast.ImportFrom("__future__"):
            return True
        case ast.Expr(ast.Constant()):
            return True
        case _:
            return False


def _is_constant(part: ast.AST) -> bool:
    kinds = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp)
    return isinstance(part, (*kinds, ast.expr_context, ast.operator, ast.unaryop))
