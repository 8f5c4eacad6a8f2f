"""Gathering requests that come one by one into few large batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

REST, REST_TIMES = 0.3, 3.0
"""For the texts of a reward model: seconds, at most, for which they are gathered after the ones before them have been
scored, and in terms of the time that those took. A search that waits for scores leaves its place in the policy's batch
to others."""


class Waves:
    """Lets requests through in waves: a wave goes once the one before it has ended and `times` as long as it took has
    passed, at most `rest` seconds; it takes everybody who waits.

    A network over few short texts costs nearly as much as over many, and an engine that takes each text as it comes
    keeps a core or a GPU busy that generation needs. Under light use nothing waits: a request that finds no wave and no
    rest goes at the loop's next turn. What a closed event loop has left behind does not hold up the next one.
    """

    def __init__(self, rest: float, times: float = 1.0) -> None:
        self._rest, self._times = rest, times
        self._waiting: list[asyncio.Future[None]] = []
        self._inside = 0
        self._began = self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for the next wave and be part of it."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._timer, self._waiting, self._inside = loop, None, [], 0
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        self._plan()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # its wave had gone in the same moment
            raise
        try:
            yield
        finally:
            self._leave()

    def _plan(self) -> None:
        if self._timer is None and not self._inside and self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._free_at), self._go)

    def _go(self) -> None:
        self._timer = None
        wave = [turn for turn in self._waiting if not turn.done()]
        self._waiting.clear()
        self._inside, self._began = len(wave), asyncio.get_running_loop().time()
        for turn in wave:
            turn.set_result(None)

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            now = asyncio.get_running_loop().time()
            self._free_at = now + min(self._times * (now - self._began), self._rest)
            self._plan()
