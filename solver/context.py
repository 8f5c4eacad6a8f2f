"""What one search needs at hand, and the three metered ways to spend: sample, run code, score."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rstar_eval.errors import UserError
from rstar_eval.solver.choose import Choosing, classes_of
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.protocols import Executor, ExecutorSession, GroupAnswers, ManySession, Policy, RewardModel
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.solver.tree import Node
from rstar_eval.solver.types import Budget, Completion, Question, SampleRequest, StepRun, Trajectory

Outcome = Callable[[str], Awaitable[bool]]
"""Tells whether an answer is right. Exists in training only: at test time there is none."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a search works with.

    `group` puts equivalent answers in one class. `outcome` is given in training only and turns the search into the
    annotation of the paper's section 3.2: a right answer is worth +1, a wrong one -1.
    """

    policy: Policy
    executor: Executor
    reward: RewardModel | None
    group: GroupAnswers
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a search did: it gave `node` new children (or, without a tree, appended the step `node`), or it
    finished `trajectory`, which ends in `node`. `tree` is the search's tree number, `budget` what it has spent (the
    live record: read it, don't keep it)."""

    tree: int
    node: Node
    budget: Budget
    trajectory: Trajectory | None = None


Observer = Callable[[Event], None]
"""Is told what a search does, in order, from the search's own thread; it must be quick and must change nothing."""


@dataclass(slots=True)
class SearchContext:
    """One search under way: its inputs, the executor's session, how its answer will be chosen (for early stop), what
    it has spent so far, whether the policy is asked for log-probabilities, and who watches (None: nobody)."""

    question: Question
    tools: Tools
    config: SearchConfig
    tree_index: int
    session: ExecutorSession
    choosing: Choosing
    budget: Budget = field(default_factory=Budget)
    logprobs: bool = False
    observer: Observer | None = None

    def tell(self, node: Node, trajectory: Trajectory | None = None) -> None:
        """Tell the observer, if there is one, what happened at `node` (see Event)."""
        if self.observer is not None:
            self.observer(Event(self.tree_index, node, self.budget, trajectory))

    async def compare(self, answers: Sequence[str | None]) -> None:
        """Have answers compared in a thread, so that no comparison holds up the other searches.

        The votes that follow ask for the same comparisons, which `group` remembers.
        """
        given = [answer for answer in answers if answer is not None]
        if len(set(given)) > 1:
            await asyncio.to_thread(classes_of, given, self.tools.group)

    def seed(self, *purpose: object) -> int:
        """Return the seed for `purpose` in this search: independent of what else runs."""
        return derive_seed(self.config.seed, self.question.id, self.tree_index, *purpose)

    @property
    def scores(self) -> bool:
        """Whether a reward model values the steps."""
        return self.tools.reward is not None

    @property
    def may_stop(self) -> bool:
        """Whether this search may end early by itself: with several trees only the caller knows all trajectories."""
        return self.config.early_stop and self.config.trees == 1

    def tokens_left(self) -> int | None:
        """Return the completion tokens that this search may still spend (None: no limit)."""
        share = self.config.token_share
        return None if share is None else max(0, share - self.budget.completion_tokens)


async def sample(
    context: SearchContext,
    prefix: str,
    n: int,
    seed: int,
    max_tokens: int,
    until: Literal["step", "block"] = "step",
    temperature: float | None = None,
) -> tuple[Completion, ...]:
    """Ask the policy for `n` continuations of `prefix` and count the call and all its tokens.

    UserError if the search needs log-probabilities and the policy gives none.
    """
    config = context.config
    result = await context.tools.policy.sample(
        SampleRequest(
            question=context.question.text,
            prefix=prefix,
            n=n,
            seed=seed,
            until=until,
            temperature=config.temperature if temperature is None else temperature,
            top_p=config.top_p,
            max_tokens=max_tokens,
            logprobs=context.logprobs,
        )
    )
    context.budget.policy_calls += 1
    context.budget.prompt_tokens += result.prompt_tokens
    context.budget.completion_tokens += sum(one.tokens for one in result.completions)
    if context.logprobs:
        return tuple(_with_logprob(context, one) for one in result.completions)
    return result.completions


def _with_logprob(context: SearchContext, completion: Completion) -> Completion:
    """Return the completion, which has a log-probability: that of no tokens (a prompt that fills the model's context)
    is 0."""
    if completion.logprob is not None:
        return completion
    if completion.tokens:
        raise UserError(
            f"strategy {context.config.strategy!r} without a reward model ranks steps by their log-probability, and "
            f"policy {context.tools.policy.name!r} gives none",
            "give a reward model with --reward, or use --strategy mcts or majority",
        )
    return replace(completion, logprob=0.0)


async def run_code(context: SearchContext, parent: int | None, code: str) -> StepRun:
    """Run a step's code on the state `parent` and count the run; CPU seconds only of what was not run before."""
    run = await context.session.run(parent, code)
    _count(context.budget, run)
    return run


async def run_codes(context: SearchContext, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
    """Run each of several steps' code on the state `parent` and count the runs, as `run_code` for one after another
    would; in one go where the executor can."""
    session = context.session
    if len(codes) < 2 or not isinstance(session, ManySession):
        return [await run_code(context, parent, code) for code in codes]
    runs = await session.run_many(parent, codes)
    for run in runs:
        _count(context.budget, run)
    return runs


def _count(budget: Budget, run: StepRun) -> None:
    budget.code_runs += 1
    budget.code_ok += run.status == "ok"
    if not run.reused:
        budget.cpu_seconds += run.cpu_seconds


async def score(context: SearchContext, texts: Sequence[str]) -> list[float]:
    """Return the reward model's value of each solution prefix and count them. RuntimeError without a reward model or
    if it returns another number of values."""
    if context.tools.reward is None:
        raise RuntimeError("score needs a reward model")
    if not texts:
        return []
    values = await context.tools.reward.score(context.question.text, texts)
    if len(values) != len(texts):
        raise RuntimeError(f"reward model {context.tools.reward.name} gave {len(values)} values for {len(texts)} texts")
    context.budget.scored_steps += len(texts)
    return [float(value) for value in values]
