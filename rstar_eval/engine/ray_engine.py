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
import contextlib
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

from rstar_eval import __version__
from rstar_eval.config import RunConfig, model_facts
from rstar_eval.engine import cluster
from rstar_eval.engine.base import MakeOutcomes, Searched, SetAside
from rstar_eval.engine.slots import Slot, Slots
from rstar_eval.engine.worker import Cut, Ready, SearchHost
from rstar_eval.errors import BackendError, UserError
from rstar_eval.problem import Problem
from rstar_eval.solver.types import Budget

PING_SECONDS, SILENCE_SECONDS = 10.0, 120.0
"""How often a worker is asked whether it is alive, and after how long without an answer it counts as lost."""
GROW_SECONDS = 5.0
"""How often the cluster is looked at for room for more workers."""
FAILURES = 3
"""Failures of a worker place in a row, without a search finished in between, before the run ends."""
CLOSE_SECONDS = 20.0
"""Time that a worker has to end its models and its sandbox before its process is killed."""


class RayEngine:
    """An `Engine` of worker processes. Made by `start_ray`."""

    def __init__(self, config: RunConfig, outcomes: MakeOutcomes | None, notify: Callable[[str], None]) -> None:
        self.config, self.where, self.outcomes, self.notify = config, config.where, outcomes, notify
        self.grown = asyncio.Event()
        self.slots = Slots()
        self.first: Ready | None = None
        self.counts = {"joined": 0, "lost": 0, "retried": 0, "set_aside": 0}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._executors: list[Any] = []
        self._begun, self._failed = asyncio.Event(), asyncio.get_running_loop().create_future()
        self._failed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._closed = False

    # ---- what the runner asks

    @property
    def width(self) -> int:
        """Searches wanted at once: what the ready workers take, and one more each, which waits while another one's
        answer is graded."""
        return self.slots.width + len(self.slots.ready)

    async def search(self, problem: Problem, tree: int, spent: Budget) -> Searched:
        """See Engine."""
        import ray

        subject = problem.question if self.outcomes is None else problem
        number, tries = next(self._numbers), 0
        while True:
            if self._failed.done():
                raise self._failed.exception() or BackendError("the workers are gone")
            alone = self.where.tries > 1 and tries == self.where.tries - 1
            slot = await self.slots.take(alone=alone)
            actor, ready = slot.actor, slot.ready
            try:
                found: Searched = await actor.search.remote(number, subject, tree)
                slot.failures = 0
                slot.done += 1
                return Searched(found.result, found.tree, slot.name)
            except asyncio.CancelledError:
                spent.add(await self._cancel(actor, number))
                raise
            except (ray.exceptions.RayActorError, BackendError, Cut) as error:
                blame = await self._lose(slot, actor, ready, error)
                reason = _reason(error)
            except ray.exceptions.RayTaskError as error:
                cause = _cause(error)
                if isinstance(cause, UserError):
                    raise cause from None
                blame, reason = True, f"{type(cause).__name__}: {cause}"
            finally:
                self.slots.give_back(slot)
            tries += blame
            if tries >= self.where.tries:
                self.counts["set_aside"] += 1
                raise SetAside(tries, reason)
            self.counts["retried"] += 1

    def describe(self) -> Mapping[str, Any]:
        """See Engine: the models and the executor of the first worker; those that came later have the same."""
        assert self.first is not None, "an engine that has started has a worker"
        return self.first.described

    def session(self) -> Mapping[str, Any]:
        """Return the engine, its version, the workers with their machines and the searches that each did, and how many
        joined, were lost, and what became of their searches."""
        import ray

        workers = {
            slot.name: {"host": slot.ready.host if slot.ready else None, "searches": slot.done, "starts": slot.starts}
            for slot in self.slots.places
        }
        executors = {"executor_workers": len(self._executors)} if self._executors else {}
        return {"engine": "ray", "ray": ray.__version__, "workers": workers, **executors, **self.counts}

    async def close(self) -> None:
        """See Engine."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._end(slot.actor) for slot in self.slots.places if slot.actor is not None))
        await asyncio.gather(*(self._end(one) for one in self._executors))
        await asyncio.to_thread(cluster.disconnect)

    # ---- workers come and go

    async def start(self, own: bool) -> None:
        """Start the workers and wait for the first one. UserError if it can't be started; on a Ray of our `own` also if
        there is no room for it."""
        import ray

        room = cluster.room_for(self.where, ray.nodes())
        if own and not room:
            raise UserError(
                f"this machine has no room for a worker, which asks {_amounts(cluster.demand(self.where))}",
                "lower gpus_per_worker or cpus_per_worker, or give a cluster with --ray-address",
            )
        if not self.where.gpus_per_worker and ray.cluster_resources().get("GPU") and _wants_gpu(self.config.policy):
            self.notify("the cluster has GPUs, and the workers ask for none: give --gpus-per-worker to use them")
        if self.where.executor_workers:
            from rstar_eval.engine.remote_executor import ExecutorHost

            live = 64
            host = ray.remote(ExecutorHost).options(
                num_cpus=1, max_restarts=-1, max_concurrency=4096, scheduling_strategy="SPREAD"
            )
            self._executors = [
                host.remote(self.config.isolation, self.config.step_seconds, live)
                for _ in range(self.where.executor_workers)
            ]
        self._grow(room)
        self._spawn(self._watch_cluster())
        begun = asyncio.create_task(self._begun.wait())
        await asyncio.wait([begun, self._failed], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if self._failed.done():
            self._failed.result()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)
        self.slots.fail(error)

    def _grow(self, room: int) -> None:
        """Have a place for each worker that is wanted."""
        wanted = self.where.workers if self.where.workers is not None else room
        while len(self.slots.places) < wanted:
            slot = Slot(f"w{len(self.slots.places):03}")
            self.slots.places.append(slot)
            self._spawn(self._keep(slot))

    async def _watch_cluster(self) -> None:
        """Add places when the cluster grows, unless the user said how many; say so while there is no worker."""
        import ray

        silent = 0.0
        while True:
            await asyncio.sleep(GROW_SECONDS)
            nodes = await asyncio.to_thread(ray.nodes)
            room = cluster.room_for(self.where, nodes)
            self._grow(room)
            silent = 0.0 if self.slots.ready else silent + GROW_SECONDS
            if silent >= 60 and not room:
                self.notify(f"waiting: no machine of the cluster has room for {_amounts(cluster.demand(self.where))}")
                silent = 0.0

    async def _keep(self, slot: Slot) -> None:
        """Have a worker in this place, and another one each time it is lost."""
        import ray

        while True:
            slot.lost = asyncio.Event()
            slot.starts += 1
            slot.actor = self._make_worker()
            try:
                ready: Ready = await slot.actor.start.remote(self._executors)
            except ray.exceptions.RayActorError as error:
                self._kill(slot.actor)
                self._count_failure(slot, BackendError(f"worker {slot.name} died while it started: {_reason(error)}"))
                await asyncio.sleep(min(30.0, 2.0**slot.failures))
                continue
            except ray.exceptions.RayTaskError as error:
                self._kill(slot.actor)
                raise _cause(error) from None
            self._check(slot, ready)
            slot.ready = ready
            self._joined(slot, ready)
            self.slots.dispatch()
            await self._until_lost(slot)
            # Its searches find their own end; the place is empty from now on.
            slot.ready, slot.draining = None, False
            self._kill(slot.actor)

    def _make_worker(self) -> Any:
        import ray

        options: dict[str, Any] = {
            "num_cpus": self.where.cpus_per_worker,
            "num_gpus": self.where.gpus_per_worker,
            "max_restarts": 0,
            "max_concurrency": 65536,  # how many searches it does is decided here
        }
        return ray.remote(SearchHost).options(**options).remote(self.config, os.getcwd(), self.outcomes)

    def _joined(self, slot: Slot, ready: Ready) -> None:
        for note in ready.notes:
            self.notify(f"{slot.name} on {ready.host}: {note}")
        self.counts["joined"] += 1
        again = " again" if slot.starts > 1 else ""
        self.notify(f"worker {slot.name} on {ready.host} is ready{again} ({len(self.slots.ready)} at work)")
        self._begun.set()
        self.grown.set()

    def _check(self, slot: Slot, ready: Ready) -> None:
        """Refuse a worker of another version, or whose models are others than the first one's. UserError."""
        if ready.version != __version__:
            raise UserError(
                f"worker {slot.name} on {ready.host} has rstar-eval {ready.version}, and this is {__version__}",
                "install the same version on every machine",
            )
        if self.first is None:
            self.first = ready
            return
        for kind in ("policy", "reward"):
            here, there = (model_facts(one.described[kind]) for one in (self.first, ready))
            if here != there:
                differing = sorted(
                    k for k in {**(here or {}), **(there or {})} if (here or {}).get(k) != (there or {}).get(k)
                )
                raise UserError(
                    f"worker {slot.name} on {ready.host} has another {kind} model than the first worker "
                    f"({', '.join(differing)} differ)",
                    "put the same weights on every machine",
                )
        if self.first.described["executor"].get("level") != ready.described["executor"].get("level"):
            raise UserError(
                f"worker {slot.name} on {ready.host} has isolation {ready.described['executor'].get('level')}, and the "
                f"first worker {self.first.described['executor'].get('level')}",
                "demand one that every machine has, with --isolation",
            )

    async def _until_lost(self, slot: Slot) -> None:
        """Return when the worker is lost: a search of its found out, or it does not answer any more."""
        import ray

        silent = 0.0
        while not slot.lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(slot.lost.wait(), PING_SECONDS)
                return
            try:
                await asyncio.wait_for(slot.actor.ping.remote(), PING_SECONDS)
                silent = 0.0
            except TimeoutError:
                silent += 2 * PING_SECONDS
                if silent >= SILENCE_SECONDS:
                    self._say_lost(slot, f"no answer for {silent:.0f} s")
                    return
            except ray.exceptions.RayActorError as error:
                self._say_lost(slot, _reason(error))
                return

    async def _lose(self, slot: Slot, actor: Any, ready: Ready | None, error: Exception) -> bool:
        """A search found its worker lost. Return whether the search may be to blame."""
        import ray

        if slot.actor is actor and not slot.lost.is_set():
            self._say_lost(slot, _reason(error))
            slot.lost.set()
            slot.ready = None
        if isinstance(error, BackendError):
            self._count_failure(slot, error)
            return True
        nodes = await asyncio.to_thread(ray.nodes)
        return ready is None or cluster.living(ready.node, nodes)

    def _say_lost(self, slot: Slot, reason: str) -> None:
        self.counts["lost"] += 1
        self.notify(f"worker {slot.name} was lost: {reason}; its {slot.open} searches are begun again")

    def _count_failure(self, slot: Slot, error: BackendError) -> None:
        slot.failures += 1
        if slot.failures >= FAILURES:
            self._fail(error)

    async def _cancel(self, actor: Any, number: int) -> Budget:
        """End a search where it runs and return what it had spent (nothing if the worker is gone)."""
        import ray

        try:
            spent: Budget = await asyncio.wait_for(actor.cancel.remote(number), CLOSE_SECONDS)
        except (TimeoutError, ray.exceptions.RayError):
            return Budget()
        return spent

    async def _end(self, actor: Any) -> None:
        import ray

        with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
            await asyncio.wait_for(actor.close.remote(), CLOSE_SECONDS)
        self._kill(actor)

    def _kill(self, actor: Any) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(actor, no_restart=True)


async def start_ray(
    config: RunConfig, notify: Callable[[str], None], outcomes: MakeOutcomes | None = None
) -> RayEngine:
    """Join or start a cluster and return an engine whose first worker is ready. UserError if that can't be."""
    own = await asyncio.to_thread(cluster.connect, config.where)
    engine: RayEngine | None = None
    try:
        engine = RayEngine(config, outcomes, notify)
        await engine.start(own)
    except BaseException:
        if engine is not None:
            await engine.close()
        else:
            cluster.disconnect()
        raise
    return engine


def _cause(error: Any) -> BaseException:
    """Return what a worker's method raised. Errors that the user can mend keep their message and mend."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _reason(error: BaseException) -> str:
    """Return the first telling line of a Ray error."""
    if isinstance(error, UserError):
        return error.message
    lines = [" ".join(one.split()) for one in str(error).splitlines() if one.strip()]
    telling = [
        one for one in lines if one.startswith(("The actor died", "The actor is dead", "Worker exit", "The node"))
    ]
    return (telling or lines or [type(error).__name__])[0][:300]


def _amounts(asked: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in asked.items()) or "nothing"


def _wants_gpu(policy: str) -> bool:
    return policy.startswith(("hf:", "vllm:"))
