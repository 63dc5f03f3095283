"""How many sandboxes there may be, and who is next where there are as many."""

from __future__ import annotations

from collections import deque

import anyio

from ..sandbox import AsyncSandbox

__all__ = ["Open", "Place", "Room"]


class Place:
    """Room for one sandbox, held from before it is begun until nothing of it is left."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.is_starting = False
        """What the sandbox will take of the machine's memory can't be measured yet."""

    def leave(self) -> None:
        """Give it to whoever has waited the longest. To leave it twice is harmless."""
        self._room.on_left(self)


class Open:
    """A sandbox that is kept open until `closing` is set."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self.sandbox = sandbox
        self.closing = anyio.Event()


class Room:
    """*places* for sandboxes, whether they have an owner, are ready for one, or are only being begun. Where none is
    free one waits in turn, for a place or for a sandbox that is ready.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._held: set[Place] = set()
        self._waiting: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def taken(self) -> int:
        return len(self._held)

    @property
    def starting(self) -> int:
        """Places whose sandboxes have been begun and are not ready yet."""
        return sum(place.is_starting for place in self._held)

    def take(self) -> Place | None:
        """A place, or None where all are taken. Nobody waits while one is free."""
        if len(self._held) >= self.places:
            return None
        place = Place(self)
        self._held.add(place)
        return place

    async def wait(self) -> Place | Open:
        """A place, or a sandbox that is ready, when it is one's turn."""
        waiter = _Waiter()
        self._waiting.append(waiter)
        try:
            await waiter.served.wait()
        except BaseException:
            if waiter.given is None:
                self._waiting.remove(waiter)
            elif isinstance(waiter.given, Place):
                waiter.given.leave()
            else:
                waiter.given.closing.set()
            raise
        assert waiter.given is not None
        return waiter.given

    def offer(self, opened: Open) -> bool:
        """Give a sandbox to whoever has waited the longest; returns whether anybody does."""
        if not self._waiting:
            return False
        self._waiting.popleft().serve(opened)
        return True

    def on_left(self, place: Place) -> None:
        """Take *place* back, and give it to whoever has waited the longest."""
        self._held.discard(place)
        if self._waiting and (free := self.take()) is not None:
            self._waiting.popleft().serve(free)


class _Waiter:
    def __init__(self) -> None:
        self.served = anyio.Event()
        self.given: Place | Open | None = None

    def serve(self, given: Place | Open) -> None:
        self.given = given
        self.served.set()
