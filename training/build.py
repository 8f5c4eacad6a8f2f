"""Making the data sets of a set of trees, problem by problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import TypeVar

from rstar_eval.errors import UserError
from rstar_eval.solver.tree import Node, walk
from rstar_eval.training import pairs as rules
from rstar_eval.training import solutions as paths
from rstar_eval.training.datasets import DataConfig, DataSets
from rstar_eval.training.pairs import SameValues
from rstar_eval.training.rows import PairRow, ValueRow
from rstar_eval.training.solutions import Solution
from rstar_eval.training.trees import TrainingTree
from rstar_eval.training.values import ValueProbe

RowT = TypeVar("RowT", PairRow, ValueRow)


def build(trees: Iterable[TrainingTree], config: DataConfig, *, same: SameValues | None = None) -> DataSets:
    """Return all data sets of `trees`. Trees of one problem must come one after the other (solutions and caps are per
    problem); equal rows of a problem count once, and pairs that two trees order differently not at all. Deterministic.

    same: whether two steps compute the same values (default: a `ValueProbe` of its own, if the settings ask for it).
    UserError for settings out of range, or trees without sample counts under rule `sampled`.
    """
    check(config)
    sets, dropped = DataSets(), Counter[str]()
    with ExitStack() as stack:
        if config.drop_same_values and same is None:
            same = stack.enter_context(ValueProbe())
        for group in _problems(trees):
            found = paths.answered(group)
            sets.trees += len(group)
            sets.problems += 1
            sets.solved += any(one.path.right for one in found)
            sets.sft += paths.verified_best(found, config.solutions)
            sets.random += paths.random_sample(found, config.solutions, config.seed)
            sets.rejection += paths.rejection_sample(found, config.solutions, config.seed)
            sets.outcomes += paths.outcomes(found, config.label_rows, config.seed)
            sets.values += _distinct(row for tree in group for row in rules.step_values(tree, config.min_visits))
            sets.pairs += _pairs(group, found, config, same if config.drop_same_values else None, dropped)
    sets.dropped = dict(sorted(dropped.items()))
    return sets


def check(config: DataConfig) -> None:
    """UserError naming the first setting that is out of range, its value and what is allowed."""
    for name in ("solutions", "min_samples", "min_visits", "step_pairs", "final_pairs", "label_rows"):
        value = getattr(config, name)
        least = 0 if name.endswith("_pairs") else 1
        if value is not None and value < least:
            raise UserError(f"{name} is {value}", f"give at least {least}")
    for name in ("min_edit", "good_share", "good_floor", "bad_share"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{name} is {getattr(config, name)}", "give a share from 0 to 1")
    if not 0 <= config.min_margin <= 2:
        raise UserError(f"min_margin is {config.min_margin}", "give a number from 0 to 2")


def _problems(trees: Iterable[TrainingTree]) -> Iterator[list[TrainingTree]]:
    seen: set[tuple[str, str]] = set()
    for key, group in groupby(trees, lambda tree: (tree.source.task, tree.source.problem or tree.question)):
        if key in seen:
            raise UserError(f"trees of problem {key[1]!r:.40} come apart", "sort the trees by problem")
        seen.add(key)
        yield list(group)


def _pairs(
    group: Sequence[TrainingTree],
    solutions: Sequence[Solution],
    config: DataConfig,
    same: SameValues | None,
    dropped: Counter[str],
) -> list[PairRow]:
    """Return a problem's step and final pairs, filtered and capped; counts what is dropped and why."""
    if config.pair_rule == "paper":
        steps = [row for tree in group for row in rules.paper_steps(tree)]
        finals = rules.paper_finals(solutions)
    else:
        rule = rules.SampledRule(config.good_share, config.good_floor, config.bad_share, config.min_samples)
        steps = [row for tree in group for row in rules.sampled_steps(tree, rule)]
        finals = rules.sampled_finals(group, solutions, config.final_pairs)
    before = sum(dropped.values())
    steps = _filtered(_consistent(_distinct(steps), dropped), config, dropped)
    finals = _filtered(finals, config, dropped)
    steps = _capped(steps, config.step_pairs, _Nodes(group, same), dropped)
    finals = _capped(finals, config.final_pairs, None, dropped)
    rows = [*steps, *finals]
    changed = config.pair_rule == "sampled" or sum(dropped.values()) > before
    return rules.recount(rows) if changed else rows


class _Nodes:
    """Looks up the nodes of a pair, and asks whether they compute the same values."""

    def __init__(self, group: Sequence[TrainingTree], same: SameValues | None) -> None:
        self._same = same
        self._trees: dict[tuple[str, int], tuple[TrainingTree, dict[str, Node]]] = {}
        if same is not None:
            for tree in group:
                self._trees[tree.source.run, tree.source.tree] = (tree, {node.tag: node for node in walk(tree.root)})

    def equal(self, row: PairRow) -> bool:
        if self._same is None:
            return False
        tree, nodes = self._trees[row.source.run, row.source.tree]
        return self._same(tree, nodes[row.source.node], nodes[row.rejected])


def _filtered(rows: Iterable[PairRow], config: DataConfig, dropped: Counter[str]) -> list[PairRow]:
    kept = []
    for row in rows:
        if row.margin is not None and row.margin < config.min_margin:
            dropped["margin"] += 1
        elif config.min_edit > 0 and rules.edit_share(row.pos, row.neg) < config.min_edit:
            dropped["edit distance"] += 1
        else:
            kept.append(row)
    return kept


def _capped(rows: Sequence[PairRow], most: int | None, nodes: _Nodes | None, dropped: Counter[str]) -> list[PairRow]:
    """Return at most `most` rows, the widest of each prompt first, in their old order; pairs of equal values go."""
    kept: list[int] = []
    for place in rules.by_width(rows):
        if most is not None and len(kept) >= most:
            dropped["cap"] += 1
        elif nodes is not None and nodes.equal(rows[place]):
            dropped["same values"] += 1
        else:
            kept.append(place)
    return [rows[place] for place in sorted(kept)]


def _consistent(rows: Sequence[PairRow], dropped: Counter[str]) -> list[PairRow]:
    """Return the pairs that no other tree of the problem orders the other way round."""
    known = {(row.prompt, row.pos, row.neg) for row in rows}
    kept = [row for row in rows if (row.prompt, row.neg, row.pos) not in known]
    if len(kept) < len(rows):
        dropped["contradiction"] += len(rows) - len(kept)
    return kept


def _distinct(rows: Iterable[RowT]) -> list[RowT]:
    """Return the first row of each text."""
    found: dict[tuple[str, ...], RowT] = {}
    for row in rows:
        key = (row.prompt, row.step) if isinstance(row, ValueRow) else (row.prompt, row.pos, row.neg)
        found.setdefault(key, row)
    return list(found.values())
