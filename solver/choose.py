"""Choosing the answer from the trajectories of a problem, and telling when the choice can't change any more.

Rules (arXiv 2501.04519, section 4.1 for the first; the others are the field's):
- `top_k_majority`: each of the K best-scored answered trajectories has one vote.
- `majority`: each answered trajectory has one vote.
- `weighted_majority`: each answered trajectory votes with the weight (1 + score) / 2, in [0, 1].
- `best_score`: the answer of the trajectory with the highest score; the earlier one of equals.
- `share_weighted`: each answered trajectory votes with its sampling share (the policy's own probability of the path)
  times (1 + score) / (1 - score), the odds that a score tanh(s / 2) stands for, exp(s). A tree merges equal steps and
  visits each path once; the shares bring back how often the policy would have sampled it. Ours, not the paper's.
- `first`: the answer of the first answered trajectory.

Equivalent answers vote together. A tie goes to the class with the higher single score, then to a seeded order. The
winning class is written as its first trajectory wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rstar_eval.errors import UserError
from rstar_eval.solver.config import ChoiceRule
from rstar_eval.solver.protocols import GroupAnswers
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.solver.types import Trajectory

SCORED: frozenset[ChoiceRule] = frozenset({"top_k_majority", "weighted_majority", "best_score"})
"""Rules that need every answered trajectory to be scored."""
SURE = 0.999
"""Scores beyond this, either way, count as this in `share_weighted`: odds stay finite (about 2000 to 1)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer chosen (None: no trajectory has one), the rule, its K (None unless it has one), every answer class
    with its votes (most first), and which trajectory the answer is taken from (None without one)."""

    answer: str | None
    rule: ChoiceRule
    k: int | None = None
    votes: tuple[tuple[str, float], ...] = ()
    trajectory: int | None = None


@dataclass(frozen=True, slots=True)
class _Ballot:
    """One answered trajectory: its place among all, its answer class, its score (None: not scored), its sampling
    share."""

    place: int
    group: int
    score: float | None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Choosing:
    """How to choose: the rule, its K, the seed of the last tie-break, and how answers are told apart."""

    rule: ChoiceRule
    k: int
    seed: int
    group: GroupAnswers


def choose(trajectories: Sequence[Trajectory], how: Choosing) -> Choice:
    """Return the answer that `how.rule` takes from `trajectories`.

    UserError if the rule needs scores and an answered trajectory has none, or if K is below 1.
    """
    ballots = _ballots(trajectories, how)
    shown_k = how.k if how.rule == "top_k_majority" else None
    if not ballots:
        return Choice(None, how.rule, shown_k)
    standing = _standing(ballots, how)
    first = {one.group: one.place for one in reversed(ballots)}
    ranked = sorted(standing, key=lambda each: _key(standing[each], first[each], how), reverse=True)
    votes = tuple((str(trajectories[first[each]].answer), standing[each][0]) for each in ranked)
    place = first[ranked[0]]
    return Choice(trajectories[place].answer, how.rule, shown_k, votes, place)


def decided(trajectories: Sequence[Trajectory], remaining: int, how: Choosing, *, scored: bool) -> bool:
    """Return whether no outcome of `remaining` further trajectories can change the class that `choose` picks.

    Only outcomes that give all further votes, or all but the first few for a new class, to one other class, each with
    the highest score, 1, if trajectories are `scored` at all, need be tried: no other outcome helps that class more.
    Scores must lie in [-1, 1].
    """
    return _settled(_ballots(trajectories, how), len(trajectories), remaining, how, 1.0 if scored else None)


def soonest_decision(trajectories: Sequence[Trajectory], remaining: int, how: Choosing, *, scored: bool) -> int:
    """Return how many of `remaining` further trajectories must at least be seen before the choice can be `decided`:
    0 if it is; else as many as settle it when all of them speak for the leader."""
    top = 1.0 if scored else None
    ballots, seen = _ballots(trajectories, how), len(trajectories)
    if _settled(ballots, seen, remaining, how, top):
        return 0
    for more in range(1, remaining):
        leader = _leader(ballots, how) if ballots else 0
        ballots = [*ballots, _Ballot(seen, leader, top)]
        seen += 1
        if _settled(ballots, seen, remaining - more, how, top):
            return more
    return remaining


def _settled(ballots: Sequence[_Ballot], seen: int, remaining: int, how: Choosing, top: float | None) -> bool:
    if remaining <= 0:
        return True
    if not ballots or how.rule == "share_weighted":  # how much the next path may weigh is not known
        return False
    first = {one.group: one.place for one in reversed(ballots)}
    leader = _leader(ballots, how)
    new = max(first) + 1
    alone = how.rule in ("best_score", "first")  # a further trajectory stands for itself alone
    for rival in (new,) if alone else (*first, new):
        if rival == leader:
            continue
        # More votes are never worse for a rival, but where a new class begins decides how it fares in a tie.
        for start in range(remaining if rival == new and not alone else 1):
            votes = 1 if alone else remaining - start
            after = _standing([*ballots, *(_Ballot(seen + start + i, rival, top) for i in range(votes))], how)
            mine = _key(after.get(leader, (-1.0, -2.0)), first[leader], how)
            if rival in after and _key(after[rival], first.get(rival, seen + start), how) > mine:
                return False
    return True


def _leader(ballots: Sequence[_Ballot], how: Choosing) -> int:
    standing = _standing(ballots, how)
    first = {one.group: one.place for one in reversed(ballots)}
    return max(standing, key=lambda each: _key(standing[each], first[each], how))


def _ballots(trajectories: Sequence[Trajectory], how: Choosing) -> list[_Ballot]:
    """Return the answered trajectories with their classes, checked against the rule's needs."""
    answered = [(i, one) for i, one in enumerate(trajectories) if one.answer is not None]
    if how.rule in SCORED and any(one.score is None for _, one in answered):
        raise UserError(
            f"the choice rule {how.rule!r} needs scored trajectories, and these have no scores",
            "give a reward model with --reward, or choose by majority",
        )
    if how.rule == "top_k_majority" and how.k < 1:
        raise UserError(f"top_k is {how.k}", "give at least 1 (the paper: 4 to 8)")
    if how.rule in ("best_score", "first"):  # nobody votes: each trajectory stands for itself
        classes = list(range(len(answered)))
    else:
        classes = classes_of([str(one.answer) for _, one in answered], how.group)
    return [_Ballot(i, each, one.score, one.share) for (i, one), each in zip(answered, classes, strict=True)]


def classes_of(answers: Sequence[str], group: GroupAnswers) -> list[int]:
    """Return the class of each answer; equal texts are compared once, one text not at all."""
    texts = list(dict.fromkeys(answers))
    if len(texts) < 2:
        return [0] * len(answers)
    of = dict(zip(texts, group(texts), strict=True))
    return [of[answer] for answer in answers]


def _standing(ballots: Sequence[_Ballot], how: Choosing) -> dict[int, tuple[float, float]]:
    """Return each class's votes and its best score (-1 if not scored)."""
    if how.rule == "top_k_majority":
        ballots = sorted(ballots, key=lambda one: (-(one.score or 0.0), one.place))[: how.k]
    standing: dict[int, tuple[float, float]] = {}
    for one in ballots:
        votes, best = standing.get(one.group, (0.0, -1.0))
        score = -1.0 if one.score is None else one.score
        standing[one.group] = (votes + _weight(one, score, how.rule), max(best, score))
    return standing


def _weight(one: _Ballot, score: float, rule: ChoiceRule) -> float:
    match rule:
        case "weighted_majority":
            return (1.0 + score) / 2.0
        case "share_weighted":
            sure = min(max(one.score or 0.0, -SURE), SURE)  # without a score the share alone
            return one.share * (1.0 + sure) / (1.0 - sure)
        case "best_score":
            return score
        case "first":
            return -float(one.place)
        case _:
            return 1.0


def _key(standing: tuple[float, float], first: int, how: Choosing) -> tuple[float, float, int]:
    """Return the order of classes: votes, then best score, then seeded; for `best_score` the earlier one."""
    return (*standing, -first if how.rule == "best_score" else -derive_seed(how.seed, "vote", first))
