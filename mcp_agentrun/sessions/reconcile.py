"""Compare what the engine runs with what should run."""

from __future__ import annotations

import logging
from collections.abc import Collection

import anyio

from ..background import contained
from ..engine import Engine
from ..sandbox.capacity import OpenContainer
from ..sandbox.pool import WarmPool

__all__ = ["Reconciler"]

logger = logging.getLogger(__name__)

RECONCILE_SECONDS = 60.0
"""Time between two comparisons."""


class Reconciler:
    """Compares the open sandboxes with the engine's containers."""

    def __init__(self, engine: Engine, sandboxes: Collection[OpenContainer], pool: WarmPool | None) -> None:
        self._engine = engine
        self._sandboxes = sandboxes
        self._pool = pool

    async def keep(self) -> None:
        """Compare regularly, until cancelled."""
        while True:
            await anyio.sleep(RECONCILE_SECONDS)
            await contained(self.compare)

    async def compare(self) -> None:
        """Mark sandboxes whose containers are gone as lost, and remove containers that belong to no sandbox.

        :raises UnavailableError: the engine does not respond.
        """
        containers = [opened.container for opened in self._sandboxes if opened.container.is_ready]
        believed = [(container, container.starts) for container in containers]
        found = set(await self._engine.list_sandboxes())
        for container, start in believed:
            if container.id not in found and container.is_ready:
                logger.warning("a sandbox's container is gone")
                container.abandon(start)
        if self._pool is not None:
            self._pool.discard_lost()
        if removed := await self._engine.sweep():
            logger.warning("removed %d containers without an owner", removed)
