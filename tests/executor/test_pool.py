from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.executor import LEVELS, Limits, start_executor
from rstar_eval.solver.executor.levels import as_level

if TYPE_CHECKING:
    from .conftest import Cage


@pytest.fixture(scope="module")
def made(cage: Cage) -> Iterator[Cage]:
    made = type(cage)(cage.executor.level, workers=2, live_workers=3, limits=Limits(nodes=3))
    yield made
    made.close()


@pytest.fixture
def small(made: Cage) -> Cage:
    """An executor that may keep three workers alive, with its counts set back. Close its sessions."""
    made.executor.pool.counts.clear()
    return made


def test_many_open_problems_share_few_workers_and_stay_right(small: Cage) -> None:
    async def problem(number: int) -> list[str]:
        session = await small.executor.open(str(number))
        parent, outputs = None, []
        for _ in range(4):
            code = f"x = {number}" if parent is None else "x = x + 1\nprint(x)"
            run = await session.run(parent, code)
            parent = run.node
            outputs.append(run.output.strip())
            await asyncio.sleep(0)
        await session.close()
        return outputs

    async def everything() -> list[list[str]]:
        return await asyncio.gather(*(problem(number) for number in range(0, 160, 10)))

    results = small.do(everything())
    assert results == [["", *(str(n + step) for step in range(1, 4))] for n in range(0, 160, 10)]
    assert small.executor.pool.live == 0
    assert small.executor.counts()["evicted"] > 10
    assert small.executor.counts()["replayed"] > 10


def test_dropped_states_are_rebuilt(small: Cage) -> None:
    session = small.open()
    root = small.run(session, None, "x = [0]")
    nodes = [small.run(session, root.node, f"x.append({n})") for n in range(10)]
    for n, node in enumerate(nodes):
        assert small.run(session, node.node, "print(x)").output == f"[0, {n}]\n"
    assert small.run(session, root.node, "print(x)").output == "[0]\n"
    assert small.executor.counts()["replayed"] > 0
    assert small.executor.counts().get("replay_differs", 0) == 0
    small.do(session.close())


def test_strict_candidates_of_one_parent_run_beside_each_other(small: Cage) -> None:
    session = small.open()
    root = small.run(session, None, "x = 1")

    async def siblings() -> list[str]:
        codes = [f"import sys\nsys.mine = {n}\nprint(x + {n}, sys.mine)" for n in range(8)]
        return [run.output for run in await asyncio.gather(*(session.run(root.node, code) for code in codes))]

    assert small.do(siblings()) == [f"{n + 1} {n}\n" for n in range(8)]
    small.do(session.close())


def test_a_worker_that_holds_much_memory_is_not_kept_idle(cage: Cage) -> None:
    cage.executor.pool.counts.clear()
    source: Any = cage.executor.pool.sources[0]
    size = source.idle_bytes + (64 << 20)
    session = cage.open()
    root = cage.run(session, None, f"data = b'x' * {size}")
    small = cage.run(session, None, "data = b'ab'")
    assert cage.executor.counts()["large"] == 1
    assert cage.run(session, root.node, "print(len(data))").output == f"{size}\n"
    assert cage.run(session, small.node, "print(len(data))").output == "2\n"


@pytest.mark.parametrize("level", ["weak", "Strong", "accident"])
def test_an_unknown_level_is_one_clear_line(level: str) -> None:
    with pytest.raises(UserError, match="unknown isolation level"):
        asyncio.run(start_executor(level))


def test_accidents_is_short_for_accidents_only() -> None:
    assert as_level("accidents") == "accidents-only"
    assert [as_level(level) for level in LEVELS] == list(LEVELS)


@pytest.mark.parametrize("limits", [{"cpu_seconds": 0}, {"memory_mb": -1}, {"nodes": 0}])
def test_limits_must_be_positive(limits: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(limits))):
        Limits(**limits)
