"""The face of the solver: one search, and the choice of the answer from what searches found.

result = await search(question, Tools(policy, executor, reward, group), SearchConfig(strategy="mcts"))
choice = choose_answer(result.trajectories, config, group)
"""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.errors import UserError
from rstar_eval.solver.choose import SCORED, Choice, Choosing, choose
from rstar_eval.solver.choose import decided as _decided
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.context import Event, Observer, Outcome, SearchContext, Tools
from rstar_eval.solver.protocols import GroupAnswers
from rstar_eval.solver.reference import reference
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.tree import tree_data
from rstar_eval.solver.types import Budget, Question, SearchResult, Trajectory

__all__ = ["Choice", "Event", "Observer", "Outcome", "Tools", "check_config", "choose_answer", "decided", "search"]


async def search(
    question: Question,
    tools: Tools,
    config: SearchConfig,
    tree_index: int = 0,
    *,
    keep_tree: bool = False,
    observer: Observer | None = None,
    budget: Budget | None = None,
) -> SearchResult:
    """Search one problem once: grow tree number `tree_index`, or sample that share of the solutions.

    `observer` is told what the search does while it does it (context.Event). `budget` is the record that it counts in
    (None: a new one): who keeps it knows what a search has spent that was cut off.

    The result depends on the question, the settings, the tree's index and the backends alone, not on what else runs.
    UserError if the settings don't fit together or with `tools`; BackendError if a backend is gone for good. When
    cancelled, the executor's session is closed.
    """
    check_config(config, scored=tools.reward is not None)
    strategy = STRATEGIES[config.strategy]
    session = await tools.executor.open(f"{question.id}/{tree_index}")
    try:
        choosing = _choosing(config, tools.group, scored=tools.reward is not None)
        spent = Budget() if budget is None else budget
        context = SearchContext(question, tools, config, tree_index, session, choosing, spent, observer=observer)
        run = reference if config.semantics == "reference" else strategy.run
        trajectories, root, end = await run(context)
    finally:
        await session.close()
    if end != "decided" and any(one.end == "budget" for one in trajectories):
        end = "budget"
    tree = tree_data(root) if keep_tree and root is not None else None
    return SearchResult(question.id, tree_index, tuple(trajectories), context.budget, tree, end)


def choose_answer(trajectories: Sequence[Trajectory], config: SearchConfig, group: GroupAnswers) -> Choice:
    """Return the answer chosen from the trajectories of one problem (of all its trees) by `config.choose`.

    `auto` is the strategy's own rule; for mcts the majority, of the K best where the trajectories are scored.
    UserError if the rule needs scores that the trajectories lack.
    """
    answered = [one for one in trajectories if one.answer is not None]
    scored = bool(answered) and all(one.score is not None for one in answered)
    return choose(trajectories, _choosing(config, group, scored=scored))


def decided(
    trajectories: Sequence[Trajectory], remaining: int, config: SearchConfig, group: GroupAnswers, *, scored: bool
) -> bool:
    """Return whether no outcome of `remaining` further trajectories can change the answer's class. `scored` says
    whether a reward model scores them."""
    return _decided(trajectories, remaining, _choosing(config, group, scored=scored), scored=scored)


def check_config(config: SearchConfig, *, scored: bool) -> None:
    """Check the settings of a search, given whether there is a reward model. UserError names the first that is wrong,
    its value and the mend."""
    strategy = STRATEGIES[config.strategy]
    if strategy.needs_reward and not scored:
        raise UserError(
            f"strategy {config.strategy!r} needs a reward model", "give one with --reward, or use --strategy majority"
        )
    if config.choose in SCORED and not scored:
        raise UserError(
            f"choose {config.choose!r} needs scored trajectories",
            "give a reward model with --reward, or choose=majority",
        )
    if config.semantics == "reference" and config.strategy != "mcts":
        raise UserError(f"semantics reference has no strategy {config.strategy!r}", "use --strategy mcts")
    at_least_one = ("rollouts", "trees", "rollouts_per_trajectory", "candidates", "max_depth", "max_step_tokens")
    for name in (*at_least_one, "max_block_tokens", "top_k", "max_errors", "parallel_rollouts"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}", "give at least 1")
    if config.rollouts % config.trees:
        raise UserError(
            f"rollouts {config.rollouts} can't be shared equally by trees {config.trees}",
            "make rollouts a multiple of trees",
        )
    for name in ("c_puct", "temperature", "virtual_loss"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{name} is {getattr(config, name)}", "give 0 or more")
    if not 0 < config.top_p <= 1:
        raise UserError(f"top_p is {config.top_p}", "give a number above 0 and at most 1")
    if config.max_tokens_per_problem is not None and config.max_tokens_per_problem < config.trees:
        raise UserError(
            f"max_tokens_per_problem is {config.max_tokens_per_problem}", "give at least one token for each tree"
        )


def _choosing(config: SearchConfig, group: GroupAnswers, *, scored: bool) -> Choosing:
    strategy = STRATEGIES[config.strategy]
    rule = config.choose
    if rule == "auto":
        rule = strategy.choose_scored if scored else strategy.choose
    return Choosing(rule, config.top_k, config.seed, group)
