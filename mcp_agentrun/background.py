"""Background tasks that end nothing but themselves."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from .errors import AgentRunError

__all__ = ["contained"]

logger = logging.getLogger(__name__)


async def contained(task: Callable[[], Awaitable[object]]) -> None:
    """Await *task*. What it raises is logged: in a task group it would end every other task, those of other clients
    included.
    """
    try:
        await task()
    except AgentRunError as error:
        logger.warning("%s", error)
    except Exception:
        logger.exception("a background task failed: %s", getattr(task, "__qualname__", task))
