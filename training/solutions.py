"""Whole solutions out of search trees: the verified ones to imitate, the two simpler choices that Table 7 of the paper
compares them with, and the labelled ones for an outcome reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.solver.reference_data import EndedPath, ended_paths
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.rows import OutcomeRow, Provenance, SftRow
from rstar_eval.training.trees import TrainingTree, visited


@dataclass(frozen=True, slots=True)
class Solution:
    """A path that ended with an answer, and the tree that it is from."""

    tree: TrainingTree
    path: EndedPath

    @property
    def verified(self) -> bool:
        """Whether every step's code ran without an error (section 3.2: a step is kept only if it runs)."""
        return all(step.status in (None, "ok") and step.kind != "malformed" for step in self.path.steps)

    @property
    def text(self) -> str:
        """The whole response."""
        return self.path.solution


def answered(trees: Sequence[TrainingTree]) -> list[Solution]:
    """Return the solutions that a walk finished with an answer, of all trees of one problem; of those with the same
    text the first."""
    found: dict[str, Solution] = {}
    for tree in trees:
        paths = [path for path in ended_paths(visited(tree.root), tree.right) if path.answered]
        for path in sorted(paths, key=lambda path: _place(path.steps[-1].tag)):
            found.setdefault(path.solution.strip(), Solution(tree, path))
    return list(found.values())


def verified_best(solutions: Sequence[Solution], most: int) -> list[SftRow]:
    """Return the up to `most` right solutions with the highest mean Q, all their steps verified (section 3.4); equal
    means are ordered by least Q, then as found."""
    good = [one for one in solutions if one.path.right and one.verified]
    good.sort(key=lambda one: (one.path.mean_q, min(one.path.values)), reverse=True)
    return [_row(one) for one in good[:most]]


def rejection_sample(solutions: Sequence[Solution], most: int, seed: int) -> list[SftRow]:
    """Return up to `most` right solutions drawn without regard to Q or to errors on the way."""
    return _draw([one for one in solutions if one.path.right], most, seed, "rejection")


def random_sample(solutions: Sequence[Solution], most: int, seed: int) -> list[SftRow]:
    """Return up to `most` solutions drawn among all that have an answer, right or wrong."""
    return _draw(solutions, most, seed, "random")


def outcomes(solutions: Sequence[Solution], most: int | None, seed: int) -> list[OutcomeRow]:
    """Return solutions with their verdicts; at most `most` right and `most` wrong ones (None: all)."""
    rows = []
    for right in (True, False):
        side = [one for one in solutions if one.path.right is right]
        if most is not None and len(side) > most:
            side = _pick(side, most, seed, f"outcomes/{right}")
        rows += side
    return [
        OutcomeRow(prompt_text(one.tree.question), one.text, one.path.right, _source(one))
        for one in sorted(rows, key=lambda one: (one.tree.source.tree, _place(one.path.steps[-1].tag)))
    ]


def _draw(solutions: Sequence[Solution], most: int, seed: int, purpose: str) -> list[SftRow]:
    return [_row(one) for one in _pick(solutions, most, seed, purpose)]


def _pick(solutions: Sequence[Solution], most: int, seed: int, purpose: str) -> list[Solution]:
    if not solutions:
        return []
    random = Random(derive_seed(seed, purpose, solutions[0].tree.source.problem, solutions[0].tree.question))
    return random.sample(list(solutions), min(most, len(solutions)))


def _row(one: Solution) -> SftRow:
    path = one.path
    return SftRow(one.tree.question, one.text, path.mean_q, min(path.values), len(path.steps), _source(one))


def _source(one: Solution) -> Provenance:
    return replace(one.tree.source, node=one.path.steps[-1].tag)


def _place(tag: str) -> tuple[int, ...]:
    return tuple(int(part) for part in tag.split("."))
