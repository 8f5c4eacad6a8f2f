"""The settings of a search, with the paper's values as defaults where the paper states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Semantics = Literal["paper", "reference"]
ChoiceRule = Literal["majority", "top_k_majority", "weighted_majority", "best_score", "first"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How a problem is searched.

    strategy: a registered strategy (greedy, majority, best-of-n, mcts, ...).
    rollouts: complete trajectories that the answer is chosen from, over all trees together.
    trees: independent trees (searches with other seeds) in which the rollouts are grown; must divide `rollouts`.
    candidates: steps sampled at an expansion (arXiv 2501.04519, section 4.1 and appendix A: 8 in rounds 1-3, 16 in
        round 4, 32 at test time).
    max_depth: most steps on a path (paper: 16).
    c_puct: exploration constant of UCT (paper: 2).
    temperature, top_p, max_step_tokens: of the policy's sampling; greedy always samples at temperature 0.
    choose: how the answer is chosen from the trajectories; `auto` is the strategy's own rule.
    top_k: K of `top_k_majority` (paper: 4 to 8).
    max_errors: code errors on a path before it ends (authors' code: errors_threshold).
    max_tokens_per_problem: completion tokens after which any strategy stops (None: no limit).
    """

    strategy: str = "mcts"
    rollouts: int = 4
    trees: int = 1
    candidates: int = 4
    max_depth: int = 16
    c_puct: float = 2.0
    temperature: float = 0.8
    top_p: float = 0.95
    max_step_tokens: int = 512
    semantics: Semantics = "paper"
    choose: ChoiceRule | Literal["auto"] = "auto"
    top_k: int = 8
    max_errors: int = 1
    max_tokens_per_problem: int | None = None
    seed: int = 0
