"""Background tasks whose failure does not affect others."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from .errors import AgentRunError

__all__ = ["background_tasks", "log_errors"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def background_tasks(stop: Callable[[], object] | None = None) -> AsyncGenerator[TaskGroup]:
    """A task group that ends with the context. An error in the body is raised unchanged, and not in an exception group.

    :param stop: called to end the tasks; by default they are cancelled.
    """
    raised: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            raised = error
        finally:
            (stop or tasks.cancel_scope.cancel)()
    if raised is not None:
        raise raised


async def log_errors(task: Callable[[], Awaitable[object]]) -> None:
    """Await *task* and log its errors, which in a task group would cancel all other tasks, including those of other
    clients.
    """
    try:
        await task()
    except AgentRunError as error:
        logger.warning("%s", error)
    except Exception:
        logger.exception("background task failed: %s", getattr(task, "__qualname__", task))
