"""From stored scores to the value of each problem: what another rule, judge or number of trajectories would have given.

A tree's walks come one after the other, so that its first k are what a search of k walks would have been. Independent
samples have no order: their value at k is the mean over fixed random orders of them, which is what a run of k samples
gives on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rstar_eval.leaderboards.experiments import Metric, Source
from rstar_eval.leaderboards.scores import ProblemScore, RunScores
from rstar_eval.solver.choose import SCORED, Choosing, choose
from rstar_eval.solver.config import ChoiceRule
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.types import EndReason, Trajectory
from rstar_eval.stats import pass_at_k

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ORDERS = 100
"""Random orders of a problem's samples that means are taken over."""


def problem_values(run: RunScores, source: Source, metric: Metric = "accuracy") -> dict[str, float]:
    """Return the value of each problem under `source`: for accuracy and coverage from 0 to 1, for tokens the completion
    tokens a trajectory. UserError as `curve_values`."""
    if metric == "tokens":
        return {one.problem: one.tokens / max(1, len(one.groups)) for one in run.problems}
    if metric == "accuracy" and source.at is None and source.choose is None and source.judge is None:
        return {one.problem: float(one.solved) for one in run.problems}
    at = source.at or int(run.config["rollouts"])
    return {key: found[0] for key, found in curve_values(run, source, [at], metric).items()}


def curve_values(
    run: RunScores, source: Source, ks: Sequence[int], metric: Metric = "accuracy"
) -> dict[str, list[float]]:
    """Return for each problem the value at each k of `ks`: chance that the chosen answer is right (accuracy) or that a
    right one is among k (coverage). A problem with fewer trajectories counts with all that it has.

    KeyError if the run lacks the source's judge.
    """
    rule = source.choose or _own_rule(run.config, scored=any(one.scores for one in run.problems))
    found = {}
    for one in run.problems:
        size = len(one.groups)
        sizes = [min(k, size) for k in ks]
        if not size:
            found[one.problem] = [0.0] * len(ks)
        elif metric == "coverage":
            found[one.problem] = _coverage(one, sizes, run.nested)
        elif run.nested:
            found[one.problem] = [_prefix(one, run.config, rule, k, source.judge) for k in sizes]
        else:
            found[one.problem] = _over_orders(one, rule, sizes, source.judge)
    return found


def curve_tokens(run: RunScores, ks: Sequence[int]) -> list[float] | None:
    """Return the mean completion tokens a problem that the first k trajectories took, for each k; of independent
    samples k of n take k / n of the tokens. None if it is not known."""
    sums = [0.0] * len(ks)
    for one in run.problems:
        size = len(one.groups)
        if one.spent is None and run.nested and size > 1:
            return None
        for place, k in enumerate(ks):
            if k >= size or not size:
                sums[place] += one.tokens
            elif run.nested:
                assert one.spent is not None
                sums[place] += one.spent[k - 1]
            else:
                sums[place] += one.tokens * k / size
    return [each / max(1, len(run.problems)) for each in sums]


def _own_rule(config: Mapping[str, Any], *, scored: bool) -> ChoiceRule:
    rule: ChoiceRule = config["choose"]
    if rule == "auto":  # type: ignore[comparison-overlap]
        strategy = STRATEGIES[config["strategy"]]
        return strategy.choose_scored if scored else strategy.choose
    return rule


def _coverage(one: ProblemScore, ks: Sequence[int], nested: bool) -> list[float]:
    if nested:
        return [float("1" in one.right[:k]) for k in ks]
    return [pass_at_k(len(one.right), one.right.count("1"), k) for k in ks]


def _scores(one: ProblemScore, judge: str | None) -> tuple[float | None, ...]:
    if judge is not None:
        return one.judges[judge]
    return one.scores or (None,) * len(one.groups)


def _prefix(one: ProblemScore, config: Mapping[str, Any], rule: ChoiceRule, k: int, judge: str | None) -> float:
    place = chosen_trajectory(one, config, rule, k, judge)
    return float(place is not None and one.right[place] == "1")


def chosen_trajectory(
    one: ProblemScore, config: Mapping[str, Any], rule: ChoiceRule, k: int, judge: str | None = None
) -> int | None:
    """Return which of the first k trajectories the solver's own rule takes the answer from (None: none has one)."""
    scores, shares = _scores(one, judge), one.shares or (1.0,) * len(one.groups)
    paths = []
    for place, group in enumerate(one.groups[:k]):
        answer = None if group is None else str(group)
        end: EndReason = "malformed" if answer is None else "answer"
        paths.append(Trajectory((), end, answer, scores[place], share=shares[place]))
    if rule in SCORED and any(path.answer is not None and path.score is None for path in paths):
        raise KeyError("no scores")
    return choose(paths, Choosing(rule, int(config["top_k"]), int(config["seed"]), _classes)).trajectory


def _classes(texts: Sequence[str]) -> list[int]:
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return [place[text] for text in texts]


def _over_orders(one: ProblemScore, rule: ChoiceRule, ks: Sequence[int], judge: str | None) -> list[float]:
    """Return the mean, over fixed random orders, of whether the rule takes a right answer from the first k samples. A
    tie of votes counts as the share of right ones among the tied."""
    import numpy as np

    n = len(one.groups)
    right = np.array([each == "1" for each in one.right])
    order = _orders(n)
    answered = np.array([group is not None for group in one.groups])
    if not answered.any():
        return [0.0] * len(ks)
    if rule == "first":
        ranks = np.where(answered[order], np.arange(n), n)
        return [_first_right(ranks[:, :k], right, order, answered) for k in ks]
    given = [0.0 if score is None else score for score in _scores(one, judge)]
    if rule in SCORED and any(s is None for s, ok in zip(_scores(one, judge), answered, strict=True) if ok):
        raise KeyError("no scores")
    score = np.array(given)
    if rule == "best_score":
        ranks = -np.where(answered, score, -np.inf)[order]
        return [_first_right(ranks[:, :k], right, order, answered) for k in ks]
    if rule == "top_k_majority":
        raise KeyError("the vote of the K best is for searches")
    weights = {"majority": np.ones(n), "weighted_majority": (1 + score) / 2}.get(rule, np.ones(n))
    labels = sorted({group for group in one.groups if group is not None})
    member = np.array([[float(group == label) for label in labels] for group in one.groups]) * weights[:, None]
    verdict = np.array([right[one.groups.index(label)] for label in labels])
    votes = np.cumsum(member[order], axis=1)
    top = votes.max(axis=2, keepdims=True)
    winners = (votes >= top - 1e-12) & (top > 0)
    share = (winners & verdict).sum(axis=2) / np.maximum(winners.sum(axis=2), 1)
    return [float(share[:, k - 1].mean()) for k in ks]


def _first_right(
    ranks: npt.NDArray[Any], right: npt.NDArray[np.bool_], order: npt.NDArray[np.int_], answered: npt.NDArray[np.bool_]
) -> float:
    """Return the share of orders in which the sample of least rank (the earlier of equals) is answered and right."""
    best = ranks.argmin(axis=1)
    taken = order[range(len(order)), best]
    return float((right[taken] & answered[taken]).mean())


@lru_cache(maxsize=256)
def _orders(n: int) -> npt.NDArray[np.int_]:
    import numpy as np

    return np.argsort(np.random.default_rng(n).random((ORDERS, n)), axis=1)
