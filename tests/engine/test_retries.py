"""A Ray engine's driver with workers that are made up: what is tried again, where, and what is set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.engine import ray_engine
from rstar_eval.engine.base import Searched, SetAside
from rstar_eval.engine.ray_engine import RayEngine
from rstar_eval.engine.slots import Slot
from rstar_eval.engine.worker import Ready
from rstar_eval.errors import BackendError, UserError
from rstar_eval.problem import Problem
from rstar_eval.solver.types import Budget, SearchResult

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rstar-eval[ray]'")
PROBLEM = Problem("ab" * 8, "t", 0, "1+1?", "2")


class Call:
    """What Ray makes of an actor's method."""

    def __init__(self, method: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self.method = method

    def remote(self, *arguments: Any) -> Coroutine[Any, Any, Any]:
        return self.method(*arguments)


class Actor:
    """A worker whose searches do what `work` says, with the number of the call and the searches then open."""

    def __init__(self, work: Callable[[int, int], object]) -> None:
        self.work, self.calls, self.open = work, 0, 0
        self.subjects: list[object] = []
        self.search, self.cancel = Call(self._search), Call(self._cancel)

    async def _search(self, number: int, subject: object, tree: int) -> Searched:
        self.calls += 1
        self.open += 1
        self.subjects.append(subject)
        try:
            await asyncio.sleep(0)
            found = self.work(self.calls, self.open)
            if isinstance(found, Exception):
                raise found
            if found == "hang":
                await asyncio.sleep(60)
        finally:
            self.open -= 1
        return Searched(SearchResult(PROBLEM.id, tree, ()), 0.5, b"tree")

    async def _cancel(self, number: int) -> Budget:
        return Budget(completion_tokens=7)


def died() -> Exception:
    return ray.exceptions.ActorDiedError()  # type: ignore[no-any-return]


def failed(cause: Exception) -> Exception:
    return ray.exceptions.RayTaskError("search", "traceback", cause)  # type: ignore[no-any-return]


def run(
    work: Callable[[RayEngine, list[Actor]], Coroutine[Any, Any, None]],
    monkeypatch: pytest.MonkeyPatch,
    *behaviours: Callable[[int, int], object],
    alive: bool = True,
    training: bool = False,
    **settings: Any,
) -> list[str]:
    notes: list[str] = []

    async def to_blame(ready: object) -> bool:
        return alive

    async def main() -> None:
        config = build_config({"tasks": "t", "engine": "ray", **settings})
        engine = RayEngine(config, (lambda: lambda problem: None) if training else None, notes.append)  # type: ignore
        actors = [Actor(one) for one in behaviours]
        for i, actor in enumerate(actors):
            ready = Ready(4, {}, "host", "node", 1, "0", "3", ())
            engine.workers.slots.places.append(Slot(f"w{i:03}", actor=actor, ready=ready))
        await asyncio.wait_for(work(engine, actors), 10)
        assert all(slot.open == 0 for slot in engine.workers.slots.places)

    monkeypatch.setattr(ray_engine, "_may_be_to_blame", to_blame)
    asyncio.run(main())
    return notes


def good(call: int, open: int) -> object:
    return None


def test_a_result_comes_with_its_workers_segment_and_a_worker_sees_no_gold_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        found = await engine.search(PROBLEM, 1, Budget())
        assert (found.segment, found.tree, found.result.tree_index) == ("w000", b"tree", 1)
        assert actors[0].subjects == [PROBLEM.question]

    run(work, monkeypatch, good)


def test_in_training_a_worker_gets_the_whole_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        await engine.search(PROBLEM, 0, Budget())
        assert actors[0].subjects == [PROBLEM]

    run(work, monkeypatch, good, training=True)


def test_a_search_whose_worker_dies_is_begun_again_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        found = await engine.search(PROBLEM, 0, Budget())
        assert found.segment == "w001"
        assert engine.counts == {"retried": 1, "set_aside": 0}
        assert engine.workers.slots.places[0].ready is None
        assert engine.workers.slots.places[0].lost.is_set()

    notes = run(work, monkeypatch, lambda call, open: died(), good)
    assert len(notes) == 1
    assert "worker w000 was lost" in notes[0]


def test_what_kills_every_worker_is_set_aside_after_k_tries_the_last_of_them_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[int] = []

    def busy_and_deadly(call: int, open: int) -> object:
        if call == 1:
            return "hang"
        opened.append(open)
        return died()

    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        beside = [asyncio.create_task(engine.search(PROBLEM, 1, Budget())) for _ in range(3)]
        await asyncio.sleep(0.01)
        deadly = asyncio.create_task(engine.search(PROBLEM, 0, Budget()))
        await asyncio.sleep(0.05)
        assert opened == [2, 2], "two tries beside other searches"
        assert not deadly.done(), "the last one waits for a worker of its own"
        beside[2].cancel()
        with pytest.raises(SetAside) as error:
            await deadly
        assert opened == [2, 2, 1]
        assert error.value.tries == 3
        assert engine.counts["set_aside"] == 1
        for one in beside:
            one.cancel()
        await asyncio.gather(*beside, return_exceptions=True)

    run(work, monkeypatch, busy_and_deadly, busy_and_deadly, busy_and_deadly)


def test_a_machine_that_leaves_is_no_searchs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        found = await engine.search(PROBLEM, 0, Budget())
        assert found.segment == "w004"
        assert engine.counts == {"retried": 4, "set_aside": 0}

    leaving = [lambda call, open: died()] * 4
    run(work, monkeypatch, *leaving, good, alive=False)


def test_a_search_that_raises_is_set_aside_and_its_worker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        with pytest.raises(SetAside, match="2 tries: ZeroDivisionError: by zero"):
            await engine.search(PROBLEM, 0, Budget())
        assert engine.workers.slots.places[0].ready is not None

    assert run(work, monkeypatch, lambda call, open: failed(ZeroDivisionError("by zero")), tries=2) == []


def test_a_users_mistake_ends_the_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        with pytest.raises(UserError, match="no logprobs"):
            await engine.search(PROBLEM, 0, Budget())

    run(work, monkeypatch, lambda call, open: failed(UserError("no logprobs", "use another")))


def test_models_that_are_gone_on_every_worker_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = BackendError("the server is gone", "start it")

    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        engine.workers.slots.places[0].failures = 2
        with pytest.raises(BackendError, match="server is gone"):
            await engine.search(PROBLEM, 0, Budget())
        with pytest.raises(BackendError, match="server is gone"):
            await engine.search(PROBLEM, 1, Budget())

    run(work, monkeypatch, lambda call, open: failed(gone))


def test_a_search_that_is_cancelled_says_what_it_had_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: RayEngine, actors: list[Actor]) -> None:
        spent = Budget()
        task = asyncio.create_task(engine.search(PROBLEM, 0, spent))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert spent.completion_tokens == 7

    run(work, monkeypatch, lambda call, open: "hang")
