"""Which worker does which search: the places of a distributed engine, and who waits for one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rstar_eval.engine.worker import Ready


@dataclass(eq=False, slots=True)
class Slot:
    """A place for a worker, which outlives the workers that are lost in it.

    name: of its store segment. actor, ready: of the worker that has it (None: none is ready). open: searches under way.
    alone: it does one search that must have a worker for itself; draining: it takes no more until it is empty, for
    such a search. failures: workers in a row that failed before they had finished a search. lost: is set when the
    worker is found to be gone. done: searches finished. starts: workers that it has had. host: the last one's machine.
    given_up: no worker could be started in it, and it stays empty.
    """

    name: str
    actor: Any = None
    ready: Ready | None = None
    open: int = 0
    alone: bool = False
    draining: bool = False
    host: str | None = None
    given_up: bool = False
    failures: int = 0
    done: int = 0
    starts: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def width(self) -> int:
        """How many searches its worker takes at once (0: no worker is ready)."""
        return self.ready.width if self.ready is not None else 0


class Slots:
    """The places of an engine. Searches wait in the order in which they came; the emptiest worker gets the next one."""

    def __init__(self, places: Sequence[Slot] = ()) -> None:
        self.places = list(places)
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._waiting_alone: deque[asyncio.Future[Slot]] = deque()

    @property
    def width(self) -> int:
        """Searches that all ready workers take at once."""
        return sum(slot.width for slot in self.places)

    @property
    def ready(self) -> list[Slot]:
        """The places that have a ready worker."""
        return [slot for slot in self.places if slot.ready is not None]

    async def take(self, *, alone: bool) -> Slot:
        """Return a place for a search, waiting for one; `alone`: of a worker that does nothing else meanwhile."""
        queue = self._waiting_alone if alone else self._waiting
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        queue.append(future)
        self.dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it was given a place in the very moment
                self.give_back(future.result())
            elif future in queue:
                queue.remove(future)
                self._undrain()
            raise

    def give_back(self, slot: Slot) -> None:
        """A search has left its place."""
        slot.open -= 1
        slot.alone = slot.alone and slot.open > 0
        self.dispatch()

    def fail(self, error: BaseException) -> None:
        """Tell all who wait that there will be no place."""
        for queue in (self._waiting, self._waiting_alone):
            while queue:
                future = queue.popleft()
                if not future.done():
                    future.set_exception(error)

    def dispatch(self) -> None:
        """Give free places to those who wait."""
        while self._waiting_alone:
            empty = self._least(lambda slot: slot.open == 0 and not slot.alone)
            if empty is None:
                if not any(slot.draining for slot in self.places):
                    chosen = self._least(lambda slot: not slot.alone)
                    if chosen is not None:
                        chosen.draining = True
                break
            self._give(self._waiting_alone, empty, alone=True)
        while self._waiting:
            free = self._least(lambda slot: not slot.alone and not slot.draining and slot.open < slot.width)
            if free is None:
                return
            self._give(self._waiting, free, alone=False)

    def _give(self, queue: deque[asyncio.Future[Slot]], slot: Slot, *, alone: bool) -> None:
        future = queue.popleft()
        if future.done():
            return
        slot.open += 1
        slot.alone, slot.draining = alone, False
        future.set_result(slot)

    def _least(self, fits: Callable[[Slot], bool]) -> Slot | None:
        fitting = [slot for slot in self.places if slot.ready is not None and fits(slot)]
        return min(fitting, key=lambda slot: slot.open) if fitting else None

    def _undrain(self) -> None:
        if not self._waiting_alone:
            for slot in self.places:
                slot.draining = False
            self.dispatch()
