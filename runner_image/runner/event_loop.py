"""The session's own event loop, on which ``await`` works outside of coroutines, as in a notebook."""

from __future__ import annotations

import sys
from _thread import get_ident
from contextlib import suppress
from functools import wraps
from os import getpid

from .prelude import TYPE_CHECKING, __builtins__

if TYPE_CHECKING:
    import types
    from typing import Any

    from .user_calls import UserCalls

_STEPS = 10  # that tasks may take at the end of a run
_CO_COROUTINE = 0x80  # of `inspect`


class EventLoop:
    """The loop, which is created when it is first needed; its tasks live on from run to run."""

    def __init__(self, calls: UserCalls) -> None:
        self._calls = calls
        self._loop: Any = None
        self._thread = get_ident()
        self._process = getpid()

    def note_process(self) -> None:
        """Record that the session continues in this process: a restored checkpoint is another one."""
        self._process = getpid()

    def run(self, coroutine: Any) -> Any:
        """Run *coroutine* to its end, together with the other tasks of the loop."""
        loop = self._current()
        task = loop.create_task(coroutine)
        try:
            return self._calls.alone(loop.run_until_complete, task, traced=True)
        except BaseException:
            if not task.done():
                task.cancel()
                with suppress(BaseException):
                    self._calls.alone(loop.run_until_complete, task)
            raise

    def step(self) -> None:
        """Let pending tasks proceed as far as they can without waiting."""
        if self._loop is None:
            return
        import asyncio

        if not self._loop.is_closed():
            for _ in range(_STEPS):
                if not asyncio.all_tasks(self._loop):
                    break
                self.run(asyncio.sleep(0))

    def patch_tasks(self, tasks: Any) -> None:
        """Patch the module `asyncio.tasks`: `create_task` and `get_event_loop` work outside of coroutines as well."""
        original: Any = tasks.create_task
        policy: Any = getattr(tasks.events, "BaseDefaultEventLoopPolicy", None)  # until Python 3.13

        @wraps(original)
        def create_task(coro: Any, **options: Any) -> Any:
            if tasks.events._get_running_loop() is not None or not self._is_main():
                return original(coro, **options)
            return self._current().create_task(coro, **options)

        if policy is not None:
            current: Any = policy.get_event_loop

            @wraps(current)
            def get_event_loop(policy: Any) -> Any:
                return self._current() if policy._local._loop is None and self._is_main() else current(policy)

            policy.get_event_loop = get_event_loop
        tasks.create_task = create_task
        if (package := sys.modules.get("asyncio")) is not None:
            package.__dict__["create_task"] = create_task

    def _is_main(self) -> bool:
        """Whether this is the thread of the runs, and not in a process that user code has forked."""
        return get_ident() == self._thread and getpid() == self._process

    def _current(self) -> Any:
        import asyncio

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        return self._loop


def is_coroutine(*codes: types.CodeType | None) -> bool:
    """Whether one of *codes* has an ``await`` outside of functions."""
    return any(code is not None and code.co_flags & _CO_COROUTINE for code in codes)


async def evaluate(body: types.CodeType, expression: types.CodeType | None, namespace: dict[str, Any]) -> Any:
    """Execute *body* and return the value of *expression*, at least one of which `is_coroutine`."""
    value = eval(body, namespace)
    if is_coroutine(body):
        await value
    if expression is None:
        return None
    value = eval(expression, namespace)
    return await value if is_coroutine(expression) else value
