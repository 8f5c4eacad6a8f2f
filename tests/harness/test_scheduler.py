"""Searches of many problems side by side: no barrier, bounded, and clean when they are cancelled or a backend fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.engine.local import LocalEngine
from rstar_eval.errors import BackendError
from rstar_eval.grading import group_answers
from rstar_eval.problem import Problem, problem_id
from rstar_eval.records import comparable
from rstar_eval.runner import Runner, Stopped, TaskRun
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.protocols import Policy
from rstar_eval.solver.reward.scripted import ScriptedReward, noise
from rstar_eval.solver.search import Tools
from rstar_eval.solver.types import SampleRequest, SampleResult, StepRun
from rstar_eval.store import TRAJECTORIES, RunStore, read_lines

TEXTS = [f"Tom has {i} apples and buys {i + 2} more. How many?" for i in range(12)]
PROBLEMS = tuple(Problem(problem_id("t", i, text), "t", i, text, str(2 * i + 2)) for i, text in enumerate(TEXTS))
Gate = Callable[[SampleRequest], Awaitable[None]]


class Watched:
    """A policy that counts its open requests and passes each through `gate` first."""

    def __init__(self, policy: Policy, gate: Gate) -> None:
        self.policy, self.gate = policy, gate
        self.name, self.format = policy.name, policy.format
        self.open = self.most = self.begun = 0

    async def sample(self, request: SampleRequest) -> SampleResult:
        self.begun += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.gate(request)
            return await self.policy.sample(request)
        finally:
            self.open -= 1

    def describe(self) -> Mapping[str, object]:
        return self.policy.describe()

    async def close(self) -> None: ...


class Workers:
    """An executor that runs nothing and counts its open sessions."""

    level = "none"

    def __init__(self) -> None:
        self.open_sessions = 0

    async def open(self, key: str) -> Session:
        self.open_sessions += 1
        return Session(self)

    def describe(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None: ...


class Session:
    def __init__(self, workers: Workers) -> None:
        self.workers: Workers | None = workers

    async def run(self, parent: int | None, code: str) -> StepRun:
        await asyncio.sleep(0)
        return StepRun(0, "ok", "1\n")

    async def run_many(self, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        return [await self.run(parent, code) for code in codes]

    async def close(self) -> None:
        if self.workers is not None:
            self.workers.open_sessions -= 1
            self.workers = None


class Counting:
    def __init__(self) -> None:
        self.done = 0
        self.changed = asyncio.Event()

    def task_started(self, task: str, total: int, done: int, correct: int) -> None: ...

    def search_done(self, tokens: int) -> None:
        self.done += 1
        self.changed.set()

    def problem_done(self, outcome: str) -> None: ...

    def note(self, text: str) -> None: ...

    def task_ended(self) -> None: ...


async def at_once(request: SampleRequest) -> None:
    await asyncio.sleep(0)


async def run(
    path: Path,
    gate: Gate = at_once,
    *,
    reward: Any = None,
    progress: Counting | None = None,
    stop: asyncio.Event | None = None,
    concurrency: int = 3,
) -> tuple[Watched, Workers]:
    policy, workers = Watched(await make_policy("scripted"), gate), Workers()
    config = build_config({"tasks": "t", "strategy": "mcts", "rollouts": 2, "candidates": 3})
    tools = Tools(policy, workers, reward or ScriptedReward("noise", noise), group_answers)  # type: ignore[arg-type]
    with RunStore(path) as store:
        engine = LocalEngine(config, tools, concurrency)
        runner = Runner(config, store, engine, progress or Counting(), session=0)
        try:
            await asyncio.wait_for(runner.run([TaskRun("t", PROBLEMS)], stop or asyncio.Event()), 60)
        finally:
            assert policy.open == 0
            assert workers.open_sessions == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
    return policy, workers


def stored(path: Path) -> dict[str, Any]:
    return {one["problem"]: comparable(one) for one in read_lines(path, TRAJECTORIES)}


def test_a_slow_problem_delays_nobody(tmp_path: Path) -> None:
    """The first problem's requests are answered only when all others are done: with any barrier this never ends."""

    async def go() -> None:
        progress = Counting()

        async def gate(request: SampleRequest) -> None:
            while request.question == TEXTS[0] and progress.done < len(PROBLEMS) - 1:
                progress.changed.clear()
                await progress.changed.wait()

        await run(tmp_path, gate, progress=progress, concurrency=2)

    asyncio.run(go())
    assert list(stored(tmp_path))[-1] == PROBLEMS[0].id


def test_requests_of_different_problems_are_open_together_and_bounded(tmp_path: Path) -> None:
    async def go() -> int:
        async def gate(request: SampleRequest) -> None:
            for _ in range(20):  # room for the others to come
                await asyncio.sleep(0)

        policy, _ = await run(tmp_path, gate, concurrency=5)
        return policy.most

    assert asyncio.run(go()) == 5


def test_results_do_not_depend_on_how_many_run_together(tmp_path: Path) -> None:
    for width in (1, 4, 12):
        asyncio.run(run(tmp_path / str(width), concurrency=width))
    assert len(stored(tmp_path / "1")) == len(PROBLEMS)
    assert stored(tmp_path / "1") == stored(tmp_path / "4") == stored(tmp_path / "12")


def test_a_stop_in_the_middle_leaves_no_request_task_or_session(tmp_path: Path) -> None:
    async def go() -> None:
        stop = asyncio.Event()
        progress = Counting()

        async def gate(request: SampleRequest) -> None:
            if progress.done >= 4:
                asyncio.get_running_loop().call_later(0.02, stop.set)
                await asyncio.sleep(30)

        with pytest.raises(Stopped):
            await run(tmp_path, gate, progress=progress, stop=stop)

    asyncio.run(go())
    assert len(stored(tmp_path)) >= 4


class Failing:
    """A reward model that is gone after `calls` requests."""

    name = "failing"

    def __init__(self, calls: int) -> None:
        self.calls = calls

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        self.calls -= 1
        if self.calls < 0:
            raise BackendError("the reward model is gone")
        await asyncio.sleep(0)
        return [noise(question, text) for text in texts]

    def describe(self) -> Mapping[str, object]:
        return {}

    async def close(self) -> None: ...


def test_a_backend_that_fails_ends_all_searches_and_the_run_continues_as_if_nothing_had_been(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the reward model is gone"):
        asyncio.run(run(tmp_path / "broken", reward=Failing(30)))
    assert 0 < len(stored(tmp_path / "broken")) < len(PROBLEMS)
    asyncio.run(run(tmp_path / "broken"))
    asyncio.run(run(tmp_path / "calm"))
    assert stored(tmp_path / "broken") == stored(tmp_path / "calm")
