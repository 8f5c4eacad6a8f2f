"""Step preference pairs (section 3.3) and step values out of search trees.

Two rules make pairs. `paper`: by Q, the mean of the values that walks brought back. `sampled`: by W, the share of right
answers below a step when the policy's own sampling frequencies are followed; a merged duplicate counts as often as it
was sampled, which visits do not say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rstar_eval.errors import UserError
from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.solver.reference_data import step_pairs
from rstar_eval.solver.tree import Node, prefix_of, walk
from rstar_eval.training.rows import PairRow, ValueRow
from rstar_eval.training.solutions import Solution
from rstar_eval.training.trees import TrainingTree, visited

SameValues = Callable[[TrainingTree, Node, Node], bool]
"""Whether two steps after the same prefix compute the same values."""


@dataclass(frozen=True, slots=True)
class SampledRule:
    """The thresholds of rule `sampled`; `DataConfig` says what they mean."""

    good_share: float
    good_floor: float
    bad_share: float
    min_samples: int


@dataclass(frozen=True, slots=True)
class Worth:
    """W of a node, from 0 to 1, and the samples that it rests on (None: a finished path, known for sure)."""

    share: float
    samples: int | None

    def rests_on(self, samples: int) -> bool:
        """Return whether W rests on at least so many samples."""
        return self.samples is None or self.samples >= samples


def paper_steps(tree: TrainingTree) -> list[PairRow]:
    """Return the step pairs of a tree by the authors' rule (`reference_data.step_pairs`), on visited nodes."""
    return [
        PairRow(
            prompt_text(tree.question, prefix_of(pair.at)),
            pair.chosen.text,
            pair.rejected.text,
            pair.positives,
            pair.negatives,
            "step",
            pair.margin,
            pair.at.depth,
            pair.rejected.tag,
            replace(tree.source, node=pair.chosen.tag),
        )
        for pair in step_pairs(visited(tree.root), tree.right)
    ]


def paper_finals(solutions: Sequence[Solution]) -> list[PairRow]:
    """Return the final pairs of a problem: its two right solutions with the highest mean Q against its two wrong ones
    with the lowest (four where the other side has one); only pairs with a positive margin."""
    right = sorted((one for one in solutions if one.path.right), key=lambda one: -one.path.mean_q)
    wrong = sorted((one for one in solutions if not one.path.right), key=lambda one: one.path.mean_q)
    right, wrong = right[: 4 if len(wrong) == 1 else 2], wrong[: 4 if len(right) == 1 else 2]
    return [
        _final(good, bad, len(right), len(wrong), margin)
        for good in right
        for bad in wrong
        if (margin := good.path.mean_q - bad.path.mean_q) > 0
    ]


def sampled_worth(tree: TrainingTree) -> dict[str, Worth]:
    """Return W by tag: 1 for a right answer, 0 for any other end, and for a step the mean of its children's W weighted
    by how often each was sampled. A step that was not expanded has none, and is left out of its parent's mean.

    UserError if the tree does not say how often its steps were sampled.
    """
    if not tree.counted:
        raise UserError(
            f"the tree of problem {tree.source.problem or tree.question[:40]!r} has no sample counts",
            "search again with this version, or use pair_rule=paper",
        )
    found: dict[str, Worth] = {}
    for node in reversed(list(walk(tree.root))):
        if node.end is not None:
            found[node.tag] = Worth(1.0 if tree.is_right(node) else 0.0, None)
            continue
        known = [(child, found[child.tag]) for child in node.children or () if child.tag in found]
        samples = sum(child.samples for child, _ in known)
        if samples:
            found[node.tag] = Worth(sum(child.samples * worth.share for child, worth in known) / samples, samples)
    return found


def sampled_steps(tree: TrainingTree, rule: SampledRule) -> list[PairRow]:
    """Return the step pairs of a tree by rule `sampled`: all chosen against all rejected steps of each node."""
    worth = sampled_worth(tree)
    rows = []
    for node in walk(tree.root):
        judged = [
            (child, worth[child.tag].share)
            for child in node.children or ()
            if child.tag in worth and worth[child.tag].rests_on(rule.min_samples) and child.kind != "malformed"
        ]
        if len(judged) < 2:
            continue
        best = max(share for _, share in judged)
        good = [one for one in judged if one[1] >= max(rule.good_share * best, rule.good_floor)]
        bad = [one for one in judged if one[1] <= rule.bad_share * best and one[1] < best]
        prompt = prompt_text(tree.question, prefix_of(node))
        rows += [
            PairRow(
                prompt,
                chosen.text,
                rejected.text,
                len(good),
                len(bad),
                "step",
                high - low,
                node.depth,
                rejected.tag,
                replace(tree.source, node=chosen.tag),
            )
            for chosen, high in good
            for rejected, low in bad
        ]
    return rows


def sampled_finals(trees: Sequence[TrainingTree], solutions: Sequence[Solution], most: int | None) -> list[PairRow]:
    """Return final pairs of what the policy really writes: its most frequently sampled right solution against its most
    frequently sampled wrong ones (or several right ones against a single wrong one), at most `most` (None: all)."""
    shares = {id(tree): sample_shares(tree.root) for tree in trees}

    def often(one: Solution) -> float:
        return shares[id(one.tree)][one.path.steps[-1].tag]

    right = sorted((one for one in solutions if one.path.right), key=lambda one: -often(one))
    wrong = sorted((one for one in solutions if not one.path.right), key=lambda one: -often(one))
    if len(wrong) > 1:
        right, wrong = right[:1], wrong[:most]
    else:
        right = right[:most]
    return [_final(good, bad, len(right), len(wrong), 1.0) for good in right for bad in wrong]


def sample_shares(root: Node) -> dict[str, float]:
    """Return by tag the product of the sampling shares on the path: how likely the policy was to come here."""
    shares = {root.tag: 1.0}
    for node in walk(root):
        total = sum(child.samples for child in node.children or ())
        for child in node.children or ():
            shares[child.tag] = shares[node.tag] * child.samples / total
    return shares


def step_values(tree: TrainingTree, min_visits: int) -> list[ValueRow]:
    """Return every step that goes on or ends with an answer, with its Q in [-1, 1] as the target."""
    return [
        ValueRow(
            prompt_text(tree.question, prefix_of(node.parent)),
            node.text,
            min(1.0, max(-1.0, node.q)),
            node.visits,
            node.parent.depth,
            replace(tree.source, node=node.tag),
        )
        for node in walk(tree.root)
        if node.parent is not None and node.visits >= max(1, min_visits) and node.end in (None, "answer")
    ]


def edit_share(one: str, other: str) -> float:
    """Return the edit distance of two texts in words and signs, as a share of the longer one (0 to 1).

    >>> edit_share("x = a + b", "x = a - b")
    0.2
    """
    left, right = _words(one), _words(other)
    row = list(range(len(right) + 1))
    for i, word in enumerate(left, start=1):
        before, row[0] = row[0], i
        for j, there in enumerate(right, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != there))
    return row[-1] / max(len(left), len(right), 1)


def by_width(rows: Sequence[PairRow]) -> list[int]:
    """Return the places of a problem's pairs in the order in which a cap takes them: first the widest of each prompt,
    then the second widest of each, and so on."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.prompt, []).append(place)
    ranked = []
    for group in groups.values():
        group.sort(key=lambda place: -(rows[place].margin or 0.0))
        ranked += [(rank, -(rows[place].margin or 0.0), place) for rank, place in enumerate(group)]
    return [place for *_, place in sorted(ranked)]


def recount(rows: Iterable[PairRow]) -> list[PairRow]:
    """Return the rows with pos_count and neg_count of what is left of each group, so that it still counts once."""
    rows = list(rows)
    sides: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for row in rows:
        good, bad = sides.setdefault((row.prompt, row.kind), (set(), set()))
        good.add(row.pos)
        bad.add(row.neg)
    return [
        replace(row, pos_count=len(sides[row.prompt, row.kind][0]), neg_count=len(sides[row.prompt, row.kind][1]))
        for row in rows
    ]


def _final(good: Solution, bad: Solution, positives: int, negatives: int, margin: float) -> PairRow:
    tag = bad.path.steps[-1].tag
    return PairRow(
        prompt_text(good.tree.question),
        good.text,
        bad.text,
        positives,
        negatives,
        "final",
        margin,
        0,
        tag if bad.tree is good.tree else f"{bad.tree.source.tree}:{tag}",
        replace(good.tree.source, node=good.path.steps[-1].tag),
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)
