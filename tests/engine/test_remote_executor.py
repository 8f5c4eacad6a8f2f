"""Model-written code on executor workers: results are those of a local sandbox, also when executor workers are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from rstar_eval.engine import remote_executor
from rstar_eval.engine.remote_executor import ExecutorHost, RemoteExecutor
from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import start_executor
from rstar_eval.solver.protocols import ExecutorSession, ManySession
from rstar_eval.solver.types import StepRun

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rstar-eval[ray]'")


class Handle:
    """What Ray makes of an executor worker; it can be lost, and comes back with nothing of what it knew."""

    def __init__(self) -> None:
        self.host = self._new()
        self.down = 0  # calls that fail before it is there again
        self.opened = 0

    def _new(self) -> ExecutorHost:
        return ExecutorHost("accidents-only", 5.0, 8)

    async def lose(self, down: int = 0) -> None:
        await self.host.close()
        self.host, self.down = self._new(), down

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if self.down:
                self.down -= 1
                raise ray.exceptions.ActorUnavailableError("starting again", None)
            self.opened += name == "open"
            return await getattr(self.host, name)(*arguments)

        class Method:
            def remote(self, *arguments: Any) -> Any:
                return asyncio.ensure_future(call(*arguments))

        return Method()


async def script(session: ExecutorSession, between: Callable[[int], Coroutine[Any, Any, None]]) -> list[StepRun]:
    """A small tree of steps; `between` is called with the number of the step that comes next."""
    runs: list[StepRun] = []

    async def step(parent: int | None, code: str) -> int:
        await between(len(runs))
        runs.append(await session.run(parent, code))
        return runs[-1].node

    root = await step(None, "a = 2")
    left = await step(root, "b = a * 10\nprint(b)")
    right = await step(root, "b = a + 100\nprint(b)")
    await step(left, "print(a, b)")
    await step(right, "print(a, b)")
    await step(right, "1 / 0")
    await step(root, "b = a * 10\nprint(b)")  # an equal step
    assert isinstance(session, ManySession)
    await between(len(runs))
    runs += await session.run_many(left, ["print(b + 1)", "print(b + 2)", "def f(:"])
    return runs


def facts(runs: list[StepRun]) -> list[StepRun]:
    return [replace(run, cpu_seconds=0.0, reused=False) for run in runs]


async def nothing(number: int) -> None:
    return None


async def local() -> list[StepRun]:
    executor = await start_executor("accidents-only", live_workers=8)
    try:
        session = await executor.open("t")
        return await script(session, nothing)
    finally:
        await executor.close()


async def remote(losses: dict[int, int], hosts: int) -> tuple[list[StepRun], list[Handle]]:
    """Run the script; before step number n, all executor workers are lost if n is in `losses` (with the calls that then
    fail)."""
    handles = [Handle() for _ in range(hosts)]

    async def between(number: int) -> None:
        if number in losses:
            for handle in handles:
                await handle.lose(losses[number])

    executor = await RemoteExecutor.connect(handles)
    assert executor.level == "accidents-only"
    assert executor.describe()["hosts"] == hosts
    try:
        session = await executor.open("t")
        runs = await script(session, between)
        await session.close()
        await session.close()
        await asyncio.sleep(0.05)
        assert all(not handle.host._sessions for handle in handles)
        return runs, handles
    finally:
        for handle in handles:
            await handle.host.close()


@pytest.mark.parametrize("losses", [{}, {1: 0}, {3: 0, 5: 0}, {7: 0}, {2: 1}])
def test_a_session_that_moves_gives_what_an_undisturbed_one_gives(
    losses: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_executor, "RETRY_SECONDS", 0.01)
    runs, handles = asyncio.run(remote(losses, hosts=2))
    assert facts(runs) == facts(asyncio.run(local()))
    assert sum(handle.opened for handle in handles) == 1 + len(losses)


def test_executor_workers_that_are_lost_again_and_again_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_executor, "RETRY_SECONDS", 0.001)
    with pytest.raises(BackendError, match="executor workers were lost 10 times"):
        asyncio.run(remote({2: 1000}, hosts=1))


def test_sessions_are_spread_over_the_executor_workers() -> None:
    async def work() -> None:
        handles = [Handle() for _ in range(3)]
        executor = await RemoteExecutor.connect(handles)
        sessions = [await executor.open(str(i)) for i in range(6)]
        assert [handle.opened for handle in handles] == [2, 2, 2]
        await sessions[0].close()
        await executor.open("next")
        assert handles[0].opened == 3
        for handle in handles:
            await handle.host.close()

    asyncio.run(work())
