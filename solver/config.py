"""The settings of a search, with the paper's values as defaults where the paper states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Semantics = Literal["paper", "reference"]
ChoiceRule = Literal["majority", "top_k_majority", "weighted_majority", "best_score", "first", "share_weighted"]
FirstPlay = Literal["prior", "unvisited_first"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How a problem is searched. Sections are those of arXiv 2501.04519; docs/search.md explains each setting.

    strategy: a registered strategy (greedy, majority, best-of-n, weighted-majority, beam, dvts, mcts).
    rollouts: complete trajectories that the answer is chosen from, over all trees together.
    trees: independent trees (searches with other seeds) in which the rollouts are grown; must divide `rollouts`.
    rollouts_per_trajectory: walks from the root that a tree makes for each trajectory that it returns; the best are
        returned (section 4.1 at test time: 4). 1 returns every walk's trajectory. mcts only.
    candidates: steps sampled at an expansion (section 4.1 and appendix A: 8 in rounds 1-3, 16 in round 4, 32 at test
        time); the width of beam and dvts.
    max_depth: most steps on a path (section 4.1: 16).
    c_puct: exploration constant of UCT (section 3.2: c; authors' value 2).
    first_play: how a step that no walk has reached competes with its siblings. `prior`: a reward model's value counts
        as its first visit (section 3.2: a new step starts with q = PPM); without one it goes first.
        `unvisited_first`: it always goes first. Either way unvisited steps are taken in the order of their values.
    dedupe: whether candidates of one expansion with the same text are merged.
    temperature, top_p: of the policy's sampling; greedy always samples at temperature 0.
    max_step_tokens, max_block_tokens: most tokens of one step, and of one code block or answer sampled whole.
    choose: how the answer is chosen from the trajectories; `auto` is the strategy's own rule.
    top_k: K of `top_k_majority` (section 4.1: 4 to 8).
    max_errors: code errors on a path before it ends (authors' code: errors_threshold).
    parallel_rollouts: walks that grow one tree together, level by level (1: one after the other). They see each other
        only through the virtual loss, so that results differ from those of 1 (ours; not in the paper).
    virtual_loss: what each walk under way takes off the sum of values of the steps that it has chosen.
    early_stop: whether a search ends as soon as no outcome of its remaining trajectories can change the answer.
    max_tokens_per_problem: completion tokens after which any strategy stops, all trees together (None: no limit).
        Never exceeded by a policy that keeps to `max_tokens`.
    """

    strategy: str = "mcts"
    rollouts: int = 4
    trees: int = 1
    rollouts_per_trajectory: int = 1
    candidates: int = 4
    max_depth: int = 16
    c_puct: float = 2.0
    first_play: FirstPlay = "prior"
    dedupe: bool = True
    temperature: float = 0.8
    top_p: float = 0.95
    max_step_tokens: int = 512
    max_block_tokens: int = 1024
    semantics: Semantics = "paper"
    choose: ChoiceRule | Literal["auto"] = "auto"
    top_k: int = 8
    max_errors: int = 1
    parallel_rollouts: int = 1
    virtual_loss: float = 1.0
    early_stop: bool = False
    max_tokens_per_problem: int | None = None
    seed: int = 0

    @property
    def tree_share(self) -> int:
        """Trajectories that each tree contributes."""
        return self.rollouts // self.trees

    @property
    def token_share(self) -> int | None:
        """Completion tokens that each tree may spend (None: no limit)."""
        return None if self.max_tokens_per_problem is None else self.max_tokens_per_problem // self.trees
