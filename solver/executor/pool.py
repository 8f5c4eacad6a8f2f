"""Which workers live: a bounded number, the longest idle ones given up first, zygotes replaced when they are lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor.worker_client import Answer, Take

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
MAX_RESTARTS = 10
"""Zygotes lost within a minute before the executor gives up."""


class Worker(Protocol):
    """What the pool and the sessions need of a worker, caged or not. `many`: it takes several steps in one request,
    each with limits of its own."""

    many: bool

    @property
    def alive(self) -> bool:
        """Whether it can take a request, as far as is known."""
        ...

    def runs_on_its_own(self) -> bool:
        """Return whether it has used CPU time since its last answer."""
        ...

    def is_large(self) -> bool:
        """Return whether it holds too much memory to be kept idle."""
        ...

    def kill(self, why: str) -> None:
        """Kill it; does not wait."""
        ...

    async def exchange(self, request: bytes, cpu: float, wall: float, steps: int, take: Take) -> Answer:
        """Send a request of `steps` steps and give its frames to `take`, at most `cpu` CPU or `wall` seconds a step."""
        ...


class Source(Protocol):
    """Where workers come from: a zygote, or plain subprocesses."""

    lost: bool

    async def fork(self, number: int) -> Worker:
        """Return a new worker; BackendError if none can be made."""
        ...

    async def close(self) -> None:
        """End all workers. May be called twice."""
        ...


class Domain:
    """A part of a problem's tree that shares one worker: the scopes it holds, and a lock (one step at a time)."""

    __slots__ = ("drop", "lock", "present", "served", "worker")

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.present: OrderedDict[int, None] = OrderedDict()
        self.drop: list[int] = []
        self.served = 0
        self.lock = asyncio.Lock()

    def forget(self, why: str) -> None:
        """Give up the worker; what it held is rebuilt when it is needed."""
        if self.worker is not None:
            self.worker.kill(why)
        self.worker = None
        self.present.clear()
        self.drop.clear()
        self.served = 0


class Pool:
    """Workers for many open problems. `running` steps run at once; `live` workers exist at once (live >= running)."""

    def __init__(
        self, sources: list[Source], restart: Callable[[], Awaitable[Source]], running: int, live: int
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.slots = asyncio.Semaphore(running)
        self.sources, self._restart, self._limit = sources, restart, max(live, running)
        self._idle: OrderedDict[Domain, None] = OrderedDict()
        self._busy: set[Domain] = set()
        self._number = 0
        self._losses: list[float] = []
        self._mending = asyncio.Lock()
        self._closed = False
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    @property
    def live(self) -> int:
        """The number of workers that exist or are being made."""
        return len(self._idle) + len(self._busy)

    async def acquire(self, domain: Domain) -> Worker:
        """Return the domain's worker, made anew if it has none, and reserve it until `release`.

        Call with a slot held, so that an idle worker to give up can always be found. BackendError if none can be made.
        """
        if self._closed:
            raise BackendError("the executor is closed")
        self._idle.pop(domain, None)
        self._busy.add(domain)
        worker = domain.worker
        if worker is not None and worker.alive and not worker.runs_on_its_own():
            return worker
        if worker is not None:
            self.counts["violations_while_idle" if worker.alive or getattr(worker, "unasked", False) else "lost"] += 1
            domain.forget("violation")
        try:
            while self.live > self._limit and self._idle:
                oldest, _ = self._idle.popitem(last=False)
                oldest.forget("evicted")
                self.counts["evicted"] += 1
            domain.worker = await self._make()
        except BaseException:
            self._busy.discard(domain)
            raise
        return domain.worker

    def release(self, domain: Domain) -> None:
        """Let the domain's worker idle; it may be given up from now on."""
        self._busy.discard(domain)
        worker = domain.worker
        if worker is None or not worker.alive:
            domain.forget("gone")
        elif worker.is_large():
            self.counts["large"] += 1
            domain.forget("large")
        else:
            self._idle[domain] = None

    def discard(self, domain: Domain) -> None:
        """End the domain's worker for good."""
        self._idle.pop(domain, None)
        self._busy.discard(domain)
        domain.forget("closed session")

    async def _make(self) -> Worker:
        problem: BackendError | None = None
        for _ in range(3):
            source = await self._source()
            self._number += 1
            try:
                worker = await source.fork(self._number)
            except BackendError as error:
                problem = error
                self.counts["failed_forks"] += 1
                continue
            self.counts["workers"] += 1
            return worker
        raise problem or BackendError("no worker could be made")

    async def _source(self) -> Source:
        """Return the next source in turn, after replacing one that was lost."""
        index = self._number % len(self.sources)
        if not self.sources[index].lost:
            return self.sources[index]
        async with self._mending:
            if self.sources[index].lost:
                now = time.monotonic()
                self._losses = [*(loss for loss in self._losses if now - loss < 60), now]
                if len(self._losses) > MAX_RESTARTS:
                    raise BackendError(f"the executor's zygote was lost {len(self._losses)} times within a minute")
                log.warning("the executor's zygote was lost; starting another one")
                await self.sources[index].close()
                self.sources[index] = await self._restart()
                self.counts["zygote_restarts"] += 1
        return self.sources[index]

    def _sweep(self) -> None:
        """Kill idle workers that use CPU time: a step forged its answer and went on."""
        for domain in list(self._idle):
            worker = domain.worker
            if worker is not None and (not worker.alive or worker.runs_on_its_own()):
                self.counts["violations_while_idle"] += 1
                del self._idle[domain]
                domain.forget("violation")
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    async def close(self) -> None:
        """End all workers and sources. May be called twice."""
        self._closed = True
        self._sweeper.cancel()
        for domain in [*self._idle, *self._busy]:
            domain.forget("closed")
        self._idle.clear()
        self._busy.clear()
        for source in self.sources:
            await source.close()
