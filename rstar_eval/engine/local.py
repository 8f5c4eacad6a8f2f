"""The models and the sandbox of one process, and the searches done with them. `LocalEngine` is this in our process;
a worker of a distributed engine is the same `SearchHost` in another one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.engine.base import MakeOutcomes, OutcomeOf, Searched
from rstar_eval.grading import group_answers
from rstar_eval.problem import Problem
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.executor import start_executor
from rstar_eval.solver.protocols import Executor
from rstar_eval.solver.reward import make_reward
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Budget, Question
from rstar_eval.trees import record_of

DEFAULT_CONCURRENCY = 8
"""Problems searched at once with a policy that does not say what it likes."""
MIN_WORKERS = 64
"""Sandbox workers kept alive at least; with fewer than open searches they would replay each other's steps."""


class LocalEngine:
    """An `Engine` in this process."""

    def __init__(self, config: RunConfig, tools: Tools, concurrency: int, outcome_of: OutcomeOf | None = None) -> None:
        """`concurrency`: how many searches the models like at once. `outcome_of` is given in training alone."""
        self.config, self.tools, self.concurrency, self.outcome_of = config, tools, concurrency, outcome_of
        self.grown = asyncio.Event()

    @property
    def width(self) -> int:
        """See Engine."""
        return self.concurrency

    async def search(self, problem: Problem, tree: int, spent: Budget) -> Searched:
        """See Engine."""
        return await self.search_for(problem.question, problem, tree, spent)

    async def search_for(self, question: Question, problem: Problem | None, tree: int, spent: Budget) -> Searched:
        """Do one search; the problem itself, with its gold answer, is needed in training alone."""
        tools = self.tools
        if self.outcome_of is not None:
            assert problem is not None, "in training a search is told the outcome of its answers"
            tools = replace(tools, outcome=self.outcome_of(problem))
        keep, began = self.config.keep_trees, time.monotonic()
        result = await search(question, tools, self.config.search, tree, keep_tree=keep, budget=spent)
        seconds = time.monotonic() - began
        packed = record_of((question.id, tree), result.tree) if keep and result.tree is not None else None
        return Searched(replace(result, tree=None), seconds, packed)

    def describe(self) -> Mapping[str, Any]:
        """See Engine."""
        reward = self.tools.reward
        return {
            "policy": dict(self.tools.policy.describe()),
            "reward": dict(reward.describe()) if reward is not None else None,
            "executor": dict(self.tools.executor.describe()),
        }

    def session(self) -> Mapping[str, Any]:
        """See Engine."""
        return {}

    async def close(self) -> None:
        """See Engine."""
        for one in (self.tools.policy, self.tools.reward, self.tools.executor):
            if one is not None:
                await one.close()


def model_folder(folder: str) -> None:
    """Make `folder` the place that relative paths in models' specs start from, where a machine has it."""
    if os.path.isdir(folder):
        os.chdir(folder)


async def start_local(
    config: RunConfig,
    notify: Callable[[str], None],
    outcomes: MakeOutcomes | None = None,
    executor: Executor | None = None,
) -> LocalEngine:
    """Load the models of `config`, start its executor (or take the one given) and return the engine.

    UserError and BackendError as `make_policy`, `make_reward` and `start_executor`; what had started is ended then.
    """
    policy = reward = None
    try:
        policy = await make_policy(config.policy, notify=notify)
        width = config.concurrency or int(getattr(policy, "concurrency", DEFAULT_CONCURRENCY))
        if executor is None:
            executor = await start_executor(
                config.isolation, step_seconds=config.step_seconds, live_workers=max(MIN_WORKERS, width)
            )
        reward = await make_reward(config.reward) if config.reward else None
    except BaseException:
        for one in (policy, reward, executor):
            if one is not None:
                await one.close()
        raise
    tools = Tools(policy, executor, reward, group_answers)
    return LocalEngine(config, tools, width, outcomes() if outcomes is not None else None)
