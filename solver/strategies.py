"""The strategies by name: what each does, whether it needs a reward model, and how it chooses the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rstar_eval.registry import Registry
from rstar_eval.solver.beam import beam, dvts
from rstar_eval.solver.config import ChoiceRule
from rstar_eval.solver.context import SearchContext
from rstar_eval.solver.linear import greedy, sampling
from rstar_eval.solver.mcts import mcts
from rstar_eval.solver.tree import Node
from rstar_eval.solver.types import SearchEnd, Trajectory

Grown = tuple[list[Trajectory], Node | None, SearchEnd]
"""What a strategy gives: its trajectories in order, its tree's root (None without a tree), why it ended."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to search.

    description: one line for the command line. needs_reward: whether it can't work without a reward model.
    choose: its own rule of choosing the answer; choose_scored: the same where a reward model scored the trajectories.
    tree: whether it grows a tree.
    """

    run: Callable[[SearchContext], Awaitable[Grown]]
    description: str
    needs_reward: bool
    choose: ChoiceRule
    choose_scored: ChoiceRule
    tree: bool = True


STRATEGIES: Registry[Strategy] = Registry("strategy")
_TABLE: tuple[tuple[str, Strategy], ...] = (
    ("greedy", Strategy(greedy, "one solution at temperature 0", False, "first", "first", False)),
    (
        "majority",
        Strategy(sampling, "independent solutions; the most frequent answer", False, "majority", "majority", False),
    ),
    (
        "best-of-n",
        Strategy(
            sampling,
            "independent solutions; the answer of the best-scored one",
            True,
            "best_score",
            "best_score",
            False,
        ),
    ),
    (
        "weighted-majority",
        Strategy(
            sampling,
            "independent solutions; votes weighted by their scores",
            True,
            "weighted_majority",
            "weighted_majority",
            False,
        ),
    ),
    (
        "beam",
        Strategy(
            beam,
            "step beam search: the best steps of a level go on, by the reward model, else by the policy's likelihood",
            False,
            "majority",
            "weighted_majority",
        ),
    ),
    (
        "dvts",
        Strategy(
            dvts,
            "diverse verifier tree search: separate subtrees, the best step of each goes on; ranked as in beam",
            False,
            "majority",
            "weighted_majority",
        ),
    ),
    (
        "mcts",
        Strategy(
            mcts,
            "Monte Carlo tree search over steps; the most frequent answer, of the K best-scored solutions if scored",
            False,
            "majority",
            "top_k_majority",
        ),
    ),
)
for _name, _strategy in _TABLE:
    STRATEGIES.add(_name, _strategy)
