"""What the authors' extraction scripts take from a tree of semantics `reference`: trajectories, step preference pairs
and solutions for supervised fine-tuning (DESIGN 4.3; arXiv 2501.04519, section 3.3 for the pairs, 3.4 for the rest)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.solver.tree import Node, path_to, prefix_of, walk

MAX_PICKS = 2
"""Solutions for fine-tuning that are taken of one problem."""


@dataclass(frozen=True, slots=True)
class EndedPath:
    """A path that ended with an answer or with too many errors. `values` are the Q of its steps; `right` says whether
    its answer is; `answered` whether it has one."""

    steps: tuple[Node, ...]
    right: bool
    answered: bool

    @property
    def solution(self) -> str:
        """The text of the whole solution."""
        return "".join(step.text for step in self.steps)

    @property
    def values(self) -> list[float]:
        """Q of each step."""
        return [step.q for step in self.steps]

    @property
    def mean_q(self) -> float:
        """Mean Q of the steps."""
        return sum(self.values) / len(self.steps)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two steps after the same prefix (the prompt included): one to prefer, one to reject.

    margin: difference of their Q, above 0. positives, negatives: steps compared at this node on either side.
    """

    prefix: str
    chosen: str
    rejected: str
    margin: float
    positives: int
    negatives: int


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two children of the node `at`: one to prefer, one to reject. margin, positives, negatives: see PreferencePair."""

    at: Node
    chosen: Node
    rejected: Node
    margin: float
    positives: int
    negatives: int


def ended_paths(root: Node, right: Callable[[str], bool]) -> list[EndedPath]:
    """Return the paths that ended with an answer or with errors: the wrong ones first, each kind in the order of a
    depth-first walk. Paths that ended by depth are left out."""
    paths = []
    for node in walk(root):
        if node.end == "answer":
            paths.append(EndedPath(tuple(path_to(node)), node.answer is not None and right(node.answer), True))
        elif node.end == "errors":
            paths.append(EndedPath(tuple(path_to(node)), False, False))
    return [path for path in paths if not path.right] + [path for path in paths if path.right]


def preference_pairs(root: Node, question: str, right: Callable[[str], bool]) -> list[PreferencePair]:
    """Return the step preference pairs of a tree as text, in the order of `step_pairs`."""
    return [
        PreferencePair(
            prompt_text(question, prefix_of(pair.at)),
            pair.chosen.text,
            pair.rejected.text,
            pair.margin,
            pair.positives,
            pair.negatives,
        )
        for pair in step_pairs(root, right)
    ]


def step_pairs(root: Node, right: Callable[[str], bool]) -> list[StepPair]:
    """Return the step preference pairs of a tree, in the order of a depth-first walk.

    At each node the up to two children with the highest Q on paths to a right answer meet the up to two with the lowest
    Q on paths to a wrong one; up to four if the other side has a single child. A pair is kept if its margin is positive
    and the best right path through the chosen step has a higher mean Q than the worst wrong path through the rejected.
    Paths that ended with errors count on neither side.
    """
    paths = [path for path in ended_paths(root, right) if path.answered]
    good = _through([path for path in paths if path.right])
    bad = _through([path for path in paths if not path.right])
    pairs: list[StepPair] = []
    for node in walk(root):
        children = node.children or []
        positive = [child for child in children if child.tag in good]
        negative = [child for child in children if child.tag in bad]
        if not positive or not negative:
            continue
        most, least = 4 if len(negative) == 1 else 2, 4 if len(positive) == 1 else 2
        positive = sorted(positive, key=lambda child: -child.q)[:most]
        negative = sorted(negative, key=lambda child: child.q)[:least]
        for chosen, rejected in _pairs(positive, negative):
            margin = chosen.q - rejected.q
            best = max(path.mean_q for path in good[chosen.tag])
            worst = min(path.mean_q for path in bad[rejected.tag])
            if margin > 0 and best > worst:
                pairs.append(StepPair(node, chosen, rejected, margin, len(positive), len(negative)))
    return pairs


def fine_tuning_picks(root: Node, right: Callable[[str], bool]) -> list[str]:
    """Return the up to two best right solutions: by mean Q, then by lowest Q; none whose text contains "error"."""
    usable = [path for path in ended_paths(root, right) if path.right and "error" not in path.solution.lower()]
    usable.sort(key=lambda path: (path.mean_q, min(path.values)), reverse=True)
    return [path.solution for path in usable[:MAX_PICKS]]


def _through(paths: list[EndedPath]) -> dict[str, list[EndedPath]]:
    """Return the paths through each node's tag."""
    through: dict[str, list[EndedPath]] = {}
    for path in paths:
        for step in path.steps:
            through.setdefault(step.tag, []).append(path)
    return through


def _pairs(positive: list[Node], negative: list[Node]) -> Iterator[tuple[Node, Node]]:
    for chosen in positive:
        for rejected in negative:
            yield chosen, rejected
