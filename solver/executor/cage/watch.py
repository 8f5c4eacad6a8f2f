"""When a step has to end: its CPU time, and how its worker and the zygote keep account of it."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

ASLEEP_SECONDS, ASLEEP_CPU = 1.0, 0.001
"""A step that has not used this CPU time for so long is asleep, and the wall limit ends it. One that waits for a core
uses more, however busy the machine is: mere load decides nothing."""
DOZING, DOZING_WALLS = 0.04, 10
"""A step that wakes again and again is ended at so many wall limits if it has used less than this share of the time."""


@dataclass
class Watch:
    """A request under way: the worker's CPU clock when it began, the CPU and wall limits of each of its steps in
    seconds, how many steps it has, and when it began. `clock`, `moved`: where its clock was seen last to have moved on,
    and when."""

    base: float
    cpu: float
    wall: float
    steps: int
    begun: float
    clock: float
    moved: float

    def judge(self, clock: float, now: float, began: float, since: float) -> str:
        """Return why the request's step has to end now, "" if it need not: "cpu" or "wall".

        `clock` is the worker's CPU clock. `began` and `since` say when the step began, on that clock and in time, by
        the worker's word: a step's limits are counted from there, those of the whole request from what we know.
        """
        sleeps = self.sleeps(clock, now)
        for base, begun, times in ((began, since, 1), (self.base, self.begun, self.steps)):
            used, wall = clock - max(self.base, base), now - max(self.begun, begun)
            if used > self.cpu * times:
                return "cpu"
            dozes = wall > self.wall * times * DOZING_WALLS and used < DOZING * wall
            if (sleeps and wall > self.wall * times) or dozes:
                return "wall"
        return ""

    def sleeps(self, clock: float, now: float) -> bool:
        """Take a reading of the worker's CPU clock and return whether it stands still."""
        if clock - self.clock >= ASLEEP_CPU:
            self.clock, self.moved = clock, now
        return now - self.moved > ASLEEP_SECONDS


class Progress:
    """A page that a worker shares with the zygote alone: which step of its request runs, and since when.

    The worker writes it, so it is a claim: it shares out the time of one request among its steps, which are siblings of
    one problem, and never lengthens it.
    """

    _FORMAT = struct.Struct("=Qdd")

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def own(self) -> None:
        """Keep the page out of the workers that are forked from now on."""
        self._page.madvise(mmap.MADV_DONTFORK)

    def mark(self, index: int, cpu: float, now: float) -> None:
        """Write: step `index` began at `cpu` seconds of the worker's CPU clock, at the time `now`."""
        self._FORMAT.pack_into(self._page, 0, index, cpu, now)

    def read(self) -> tuple[int, float, float] | None:
        """Return what was marked, None if it is being written right now."""
        size = self._FORMAT.size
        found = self._page[:size]  # compared as bytes: a worker may write a number that is not equal to itself
        return self._FORMAT.unpack(found) if found == self._page[:size] else None

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
