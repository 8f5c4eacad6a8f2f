"""Search trees as training sees them: with the problem, its gold answer's verdicts, and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rstar_eval.solver.tree import Node
from rstar_eval.training.rows import Provenance

Right = Callable[[str], bool]
"""Whether an answer is right. Called once for each distinct answer of a tree at most."""


@dataclass(frozen=True, slots=True)
class TrainingTree:
    """One search tree of one problem. `root` holds its nodes; `right` decides on answers (only training may know)."""

    question: str
    root: Node
    right: Right
    source: Provenance = Provenance()


def training_tree(question: str, tree: Mapping[str, object], right: Right, source: Provenance) -> TrainingTree:
    """Return a tree stored as plain data (`solver.tree.tree_data`) as a training tree; `right` is asked once an answer.

    UserError if the data is no tree of a schema that this version reads.
    """
    raise NotImplementedError
