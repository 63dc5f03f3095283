"""Background tasks whose failure does not affect others."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from .errors import AgentRunError

__all__ = ["background_tasks", "contained"]

logger = logging.getLogger(__name__)


@asynccontextmanager
async def background_tasks(stop: Callable[[], object] | None = None) -> AsyncGenerator[TaskGroup]:
    """A task group that ends with the context. What the body raises is raised as it is: a task group's own context
    would make it a member of an exception group.

    :param stop: makes the tasks end; by default they are cancelled.
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


async def contained(task: Callable[[], Awaitable[object]]) -> None:
    """Await *task*. What it raises is logged: in a task group it would end every other task, those of other clients
    included.
    """
    try:
        await task()
    except AgentRunError as error:
        logger.warning("%s", error)
    except Exception:
        logger.exception("background task failed: %s", getattr(task, "__qualname__", task))
