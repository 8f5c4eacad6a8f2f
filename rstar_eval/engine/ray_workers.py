"""The workers of a Ray engine: each place has one, and another one each time it is lost; they come and go with the
cluster's machines."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from rstar_eval import __version__
from rstar_eval.config import RunConfig, model_facts
from rstar_eval.engine import cluster
from rstar_eval.engine.base import MakeOutcomes
from rstar_eval.engine.local import MIN_WORKERS
from rstar_eval.engine.remote_executor import ExecutorHost
from rstar_eval.engine.slots import Slot, Slots
from rstar_eval.engine.worker import Ready, SearchHost
from rstar_eval.errors import BackendError, UserError

PING_SECONDS, SILENCE_SECONDS = 10.0, 120.0
"""How often a worker is asked whether it is alive, and after how long without an answer it counts as lost."""
GROW_SECONDS = 5.0
"""How often the cluster is looked at for room for more workers."""
FAILURES = 3
"""Failures of a worker place in a row, without a search finished in between, before the run ends."""
CLOSE_SECONDS = 20.0
"""Time that a worker has to end its models and its sandbox before its process is killed."""
AT_ONCE = 65536
"""Calls that an actor takes at once, which is no limit: how many searches a worker does is decided here."""


class Workers:
    """The worker places and executor workers of an engine.

    first: what the first worker said; the others must have the same models. counts: workers that joined and were lost.
    failed: is done, with the error, once there will be no workers any more.
    """

    def __init__(self, config: RunConfig, outcomes: MakeOutcomes | None, notify: Callable[[str], None]) -> None:
        self.config, self.where, self.outcomes, self.notify = config, config.where, outcomes, notify
        self.slots = Slots()
        self.first: Ready | None = None
        self.executors: list[Any] = []
        self.counts = {"joined": 0, "lost": 0}
        self.grown = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, own: bool) -> None:
        """Start the workers and wait for the first one. UserError if it can't be started; on a Ray of our `own` also if
        there is no room for it."""
        import ray

        room = cluster.room_for(self.where, ray.nodes())
        if own and not room:
            raise UserError(
                f"this machine has no room for a worker, which asks {amounts(cluster.demand(self.where))}",
                "lower gpus_per_worker or cpus_per_worker, or give a cluster with --ray-address",
            )
        models = self.config.policy.startswith(("hf:", "vllm:"))
        if models and not self.where.gpus_per_worker and ray.cluster_resources().get("GPU"):
            self.notify("the cluster has GPUs, and the workers ask for none: give --gpus-per-worker to use them")
        host = ray.remote(ExecutorHost).options(
            num_cpus=1, max_restarts=-1, max_concurrency=AT_ONCE, scheduling_strategy="SPREAD"
        )
        for _ in range(self.where.executor_workers):
            self.executors.append(host.remote(self.config.isolation, self.config.step_seconds, MIN_WORKERS))
        self._grow(room)
        self._spawn(self._watch_cluster(own))
        begun = asyncio.create_task(self._begun.wait())
        try:
            either: list[asyncio.Future[Any]] = [begun, self.failed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        self.check_failed()

    def check_failed(self) -> None:
        """Raise what ended all work, if anything did."""
        if self.failed.done():
            self.failed.result()

    async def close(self) -> None:
        """End all workers and executor workers."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self.slots.places:
            if slot.ready is None and slot.actor is not None:  # it waits for room, or loads: there is nothing to end
                kill(slot.actor)
        await asyncio.gather(*(end(slot.actor) for slot in self.slots.ready))
        await asyncio.gather(*(end(one) for one in self.executors))
        if not self.failed.done():
            self.failed.cancel()

    def lose(self, slot: Slot, actor: Any, reason: str) -> None:
        """A search found its worker lost (it may be that another one did before)."""
        if slot.actor is actor and not slot.lost.is_set():
            self._say_lost(slot, reason)
            slot.ready = None
            slot.lost.set()

    def count_failure(self, slot: Slot, error: BackendError) -> None:
        """A worker failed; too often in a row, and the run ends with `error`."""
        slot.failures += 1
        if slot.failures >= FAILURES:
            self._fail(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # whoever asks gets it; nobody need have asked
        self.slots.fail(error)

    def _grow(self, room: int) -> None:
        """Have a place for each worker that is wanted."""
        wanted = self.where.workers if self.where.workers is not None else room
        while len(self.slots.places) < wanted:
            slot = Slot(f"w{len(self.slots.places):03}")
            self.slots.places.append(slot)
            self._spawn(self._keep(slot))

    async def _watch_cluster(self, own: bool) -> None:
        """Add places when the cluster grows, unless the user said how many; say so while there is no worker.
        BackendError if a Ray of our own is gone."""
        import ray

        silent = 0.0
        while True:
            await asyncio.sleep(GROW_SECONDS)
            nodes = await asyncio.to_thread(ray.nodes)
            if own and not any(one.get("Alive", one.get("alive")) for one in nodes):
                raise BackendError("Ray on this machine has died", "see /tmp/ray/session_latest/logs.")
            room = cluster.room_for(self.where, nodes)
            self._grow(room)
            silent = 0.0 if self.slots.ready else silent + GROW_SECONDS
            if silent >= 60 and not room:
                self.notify(f"waiting: no machine of the cluster has room for {amounts(cluster.demand(self.where))}")
                silent = 0.0

    async def _keep(self, slot: Slot) -> None:
        """Have a worker in this place, and another one each time it is lost."""
        import ray

        while True:
            slot.lost = asyncio.Event()
            slot.starts += 1
            slot.actor = self._make_worker()
            try:
                ready: Ready = await slot.actor.start.remote(self.executors)
                self._check(slot, ready)
            except (ray.exceptions.RayTaskError, UserError) as error:
                kill(slot.actor)
                self._give_up(slot, cause_of(error))
                return
            except ray.exceptions.RayError as error:
                kill(slot.actor)
                self.count_failure(slot, BackendError(f"worker {slot.name} died while it started: {reason_of(error)}"))
                await asyncio.sleep(min(30.0, 2.0**slot.failures))
                continue
            slot.ready = ready
            slot.host = ready.host
            self._joined(slot, ready)
            self.slots.dispatch()
            await self._until_lost(slot)
            # Its searches find their own end; the place is empty from now on.
            slot.ready, slot.draining = None, False
            kill(slot.actor)

    def _give_up(self, slot: Slot, error: BaseException) -> None:
        """Leave a place empty whose worker can't be started. Raises the error if no other place has a worker or is
        about to have one: so a bad machine that joins ends no run, and a bad setting ends it at once."""
        slot.given_up = True
        if not isinstance(error, UserError) or all(one.given_up for one in self.slots.places):
            raise error
        self.notify(f"worker place {slot.name} is given up: {error}")

    def _make_worker(self) -> Any:
        import ray

        options: dict[str, Any] = {
            "num_cpus": self.where.cpus_per_worker,
            "num_gpus": self.where.gpus_per_worker,
            "max_restarts": 0,
            "max_concurrency": AT_ONCE,
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
        where = f"worker {slot.name} on {ready.host}"
        if ready.version != __version__:
            raise UserError(
                f"{where} has rstar-eval {ready.version}, and this is {__version__}",
                "install the same version on every machine",
            )
        if self.first is None:
            self.first = ready
            return
        for kind in ("policy", "reward"):
            here, there = (model_facts(one.described[kind]) or {} for one in (self.first, ready))
            differing = sorted(key for key in {*here, *there} if here.get(key) != there.get(key))
            if differing:
                raise UserError(
                    f"{where} has another {kind} model than the first worker ({', '.join(differing)} differ)",
                    "put the same weights on every machine",
                )
        first, own = (one.described["executor"].get("level") for one in (self.first, ready))
        if first != own:
            raise UserError(
                f"{where} has isolation {own}, and the first worker {first}",
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
            except ray.exceptions.RayError as error:
                self._say_lost(slot, reason_of(error))
                return

    def _say_lost(self, slot: Slot, reason: str) -> None:
        self.counts["lost"] += 1
        self.notify(f"worker {slot.name} was lost: {reason}; its {slot.open} searches are begun again")


async def end(actor: Any) -> None:
    """Have an actor close what it holds, and kill it."""
    import ray

    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        await asyncio.wait_for(actor.close.remote(), CLOSE_SECONDS)
    kill(actor)


def kill(actor: Any) -> None:
    """Kill an actor's process, if it has one."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)


def cause_of(error: BaseException) -> BaseException:
    """Return what a worker's method raised. Errors that the user can mend keep their message and mend."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def reason_of(error: BaseException) -> str:
    """Return the first telling line of an error."""
    if isinstance(error, UserError):
        return error.message
    lines = [" ".join(one.split()) for one in str(error).splitlines() if one.strip()]
    heads = ("The actor died", "The actor is dead", "Worker exit", "The node")
    telling = [one for one in lines if one.startswith(heads)]
    return (telling or lines or [type(error).__name__])[0][:300]


def amounts(asked: Mapping[str, float]) -> str:
    """Return what a worker asks of the cluster, in words."""
    return " and ".join(f"{amount:g} {name}" for name, amount in asked.items()) or "nothing"
