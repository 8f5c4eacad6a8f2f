"""A search gives the same whether its executor takes the steps of an expansion together or one by one."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rstar_eval.solver.backends.scripted import Candidate, ScriptedPolicy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.protocols import ManySession
from rstar_eval.solver.reward.scripted import ScriptedReward, noise
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Budget, Question, SampleRequest, SearchResult, StepRun

if TYPE_CHECKING:
    from .conftest import Cage

LINES = [
    "x = 2",
    "x = 1",
    "x = x + 1",
    "print(x)",
    "x = int('a')",
    "y = [1]",
    "y.append(x)",
    "print(",
    "import os\nx = 3",
]


def script(request: SampleRequest, i: int) -> Candidate:
    rng = random.Random(f"{request.seed}|{i}")
    if request.prefix.endswith("<end_of_output>"):
        return f"\n<answer>From the result, the answer is \\boxed{{{rng.randrange(3)}}}.", "<end_of_answer>"
    opening = "" if request.prefix else "<code>"
    if rng.random() < 0.3:
        return f"{opening}\n# Now print the final answer\nprint({rng.randrange(4)})\n", "<end_of_code>"
    return f"{opening}\n# Step\n{rng.choice(LINES)}\n", "<end_of_step>"


class OneByOne:
    """An executor that hides that its sessions could take steps together."""

    def __init__(self, executor: Any) -> None:
        self.executor, self.level = executor, executor.level

    async def open(self, key: str) -> Any:
        session = await self.executor.open(key)

        class Session:
            async def run(self, parent: int | None, code: str) -> StepRun:
                run: StepRun = await session.run(parent, code)
                return run

            async def close(self) -> None:
                await session.close()

        assert isinstance(session, ManySession)
        assert not isinstance(Session(), ManySession)
        return Session()


def by_text(answers: Any) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


def test_together_or_one_by_one_the_tree_is_the_same(cage: Cage) -> None:
    policy, reward = ScriptedPolicy("scripted", RStarFormat(), script, {}), ScriptedReward("noise", noise)

    def grow(executor: Any, problem: str, config: SearchConfig) -> SearchResult:
        tools = Tools(policy, executor, reward, by_text)
        result = cage.do(search(Question(problem, problem), tools, config, keep_tree=True))
        return replace(result, budget=replace(result.budget, cpu_seconds=0.0))

    statuses = set()
    for number, config in enumerate((SearchConfig(rollouts=6), SearchConfig(rollouts=6, max_errors=3, dedupe=False))):
        together = grow(cage.executor, f"p{number}", config)
        assert together == grow(OneByOne(cage.executor), f"p{number}", config)
        assert together.tree is not None
        assert isinstance(together.budget, Budget)
        statuses |= {node.get("status") for node in together.tree["nodes"]}  # type: ignore[attr-defined]
    assert statuses >= {"ok", "error"}
