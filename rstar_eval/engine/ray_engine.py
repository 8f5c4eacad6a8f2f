"""`--engine ray`: the searches of a run on the workers of a Ray cluster.

The driver (this process) holds the problems with their gold answers, the grades and the store; a worker (worker.py)
holds the models and is given questions. So every result is written by one process, once, whatever happens to a worker.

A worker that is lost (its process or machine died, it does not answer, its models are gone for good) is started again
where there is room, and what it was searching is begun again elsewhere. A search that was lost with `tries` workers is
set aside; the last try has a worker for itself, so that no search is blamed for another one's doing. A machine that
leaves the cluster blames nobody.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.engine import cluster
from rstar_eval.engine.base import MakeOutcomes, Searched, SetAside
from rstar_eval.engine.ray_workers import CLOSE_SECONDS, Workers, cause_of, reason_of
from rstar_eval.engine.worker import Cut, Ready
from rstar_eval.errors import BackendError, UserError
from rstar_eval.problem import Problem
from rstar_eval.solver.types import Budget


class RayEngine:
    """An `Engine` of worker processes. Made by `start_ray`."""

    def __init__(self, config: RunConfig, outcomes: MakeOutcomes | None, notify: Callable[[str], None]) -> None:
        self.workers = Workers(config, outcomes, notify)
        self.tries, self.training = config.where.tries, outcomes is not None
        self.grown = self.workers.grown
        self.counts = {"retried": 0, "set_aside": 0}
        self._numbers = itertools.count()
        self._closed = False

    @property
    def width(self) -> int:
        """Searches wanted at once: what the ready workers take, and one more each, which waits while another one's
        answer is graded. Never none: it is a search that learns that there will be no workers any more."""
        return max(1, self.workers.slots.width + len(self.workers.slots.ready))

    async def search(self, problem: Problem, tree: int, spent: Budget) -> Searched:
        """See Engine."""
        import ray

        subject = problem if self.training else problem.question
        number, tries = next(self._numbers), 0
        while True:
            self.workers.check_failed()
            slot = await self.workers.slots.take(alone=1 < self.tries == tries + 1)
            actor, ready = slot.actor, slot.ready
            try:
                found: Searched = await actor.search.remote(number, subject, tree)
                slot.failures = 0
                slot.done += 1
                return replace(found, segment=slot.name)
            except asyncio.CancelledError:
                spent.add(await _cancel(actor, number))
                raise
            except ray.exceptions.RayTaskError as error:  # the search raised
                cause = cause_of(error)
                if isinstance(cause, BackendError | Cut):  # the models or the sandbox are gone: another worker
                    self.workers.lose(slot, actor, reason_of(cause))
                    if isinstance(cause, BackendError):
                        self.workers.count_failure(slot, cause)
                elif isinstance(cause, UserError):
                    raise cause from None
                blamed, reason = True, f"{type(cause).__name__}: {reason_of(cause)}"
            except ray.exceptions.RayError as error:  # the worker, its machine, or the result on the way here is lost
                self.workers.lose(slot, actor, reason_of(error))
                blamed, reason = await _may_be_to_blame(ready), reason_of(error)
            finally:
                self.workers.slots.give_back(slot)
            tries += blamed
            if tries >= self.tries:
                self.counts["set_aside"] += 1
                raise SetAside(tries, reason)
            self.counts["retried"] += 1

    def describe(self) -> Mapping[str, Any]:
        """See Engine: the models and the executor of the first worker; those that came later have the same."""
        assert self.workers.first is not None, "an engine that has started has a worker"
        return self.workers.first.described

    def session(self) -> Mapping[str, Any]:
        """Return the engine, its version, the workers with their last machines and the searches that each place did,
        and how many workers joined and were lost, and what became of their searches."""
        import ray

        workers = {
            slot.name: {"host": slot.host, "searches": slot.done, "starts": slot.starts}
            for slot in self.workers.slots.places
        }
        executors = {"executor_workers": len(self.workers.executors)} if self.workers.executors else {}
        return {
            "engine": "ray", "ray": ray.__version__, "workers": workers, **executors, **self.workers.counts,
            **self.counts,
        }  # fmt: skip

    async def close(self) -> None:
        """See Engine."""
        if not self._closed:
            self._closed = True
            await self.workers.close()
            await asyncio.to_thread(cluster.disconnect)


async def start_ray(
    config: RunConfig, notify: Callable[[str], None], outcomes: MakeOutcomes | None = None
) -> RayEngine:
    """Join or start a cluster and return an engine whose first worker is ready. UserError if that can't be."""
    own = await asyncio.to_thread(cluster.connect, config.where)
    engine = RayEngine(config, outcomes, notify)
    try:
        await engine.workers.start(own)
    except BaseException:
        await engine.close()
        raise
    return engine


async def _cancel(actor: Any, number: int) -> Budget:
    """End a search where it runs and return what it had spent (nothing if the worker is gone)."""
    import ray

    try:
        spent: Budget = await asyncio.wait_for(actor.cancel.remote(number), CLOSE_SECONDS)
    except (TimeoutError, ray.exceptions.RayError):
        return Budget()
    return spent


async def _may_be_to_blame(ready: Ready | None) -> bool:
    """Return whether a search may be why its worker died: not if the whole machine is gone."""
    import ray

    return ready is None or cluster.living(ready.node, await asyncio.to_thread(ray.nodes))
