"""The rows of training data: one frozen dataclass a kind, each with where it comes from. One row is one JSON line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SCHEMA = 1
RowKind = Literal["sft", "pairs", "values", "outcomes"]
PairKind = Literal["step", "final"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a row comes from: the run (its folder's name, or another label), the self-evolution round (0: none), the
    task and problem (16 hex digits), the tree's index, the node's tag ("0.2.1": first child of the root's second child;
    of a pair its chosen side), and the problem's level ("" if its task has none)."""

    run: str = ""
    round: int = 0
    task: str = ""
    problem: str = ""
    tree: int = 0
    node: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class SftRow:
    """A solution to imitate: the question and the whole response in surface form (no prompt around either).

    mean_q, min_q: mean and least Q of its steps, from -1 to 1; None where the source has none. steps: how many.
    """

    question: str
    response: str
    mean_q: float | None = None
    min_q: float | None = None
    steps: int = 0
    source: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two continuations of one prompt: `pos` to prefer, `neg` to reject.

    prompt: everything before them, the policy's prompt included; a reward model reads prompt + pos. kind: `step` (next
    steps of one node) or `final` (whole solutions). pos_count, neg_count: continuations compared on either side in this
    group (the rows of one prompt and kind). margin: difference of their values, above 0 (None: the source has none).
    depth: steps before the pair (-1: unknown). rejected: the node of `neg`.
    """

    prompt: str
    pos: str
    neg: str
    pos_count: int = 1
    neg_count: int = 1
    kind: PairKind = "step"
    margin: float | None = None
    depth: int = -1
    rejected: str = ""
    source: Provenance = field(default_factory=Provenance)

    @property
    def weight(self) -> float:
        """The pair's weight in the loss: 1 / (pos_count * neg_count), so that a group whose pairs are all kept counts
        once. Where one count is 0, 1 over the other (authors' code)."""
        if self.pos_count and self.neg_count:
            return 1.0 / (self.pos_count * self.neg_count)
        return 1.0 / max(self.pos_count + self.neg_count, 1)


@dataclass(frozen=True, slots=True)
class ValueRow:
    """A step and the value that a PQM regresses on: its Q in the tree, from -1 to 1. prompt: everything before the step
    (the policy's prompt included). visits: how many values Q is the mean of. depth: steps before it."""

    prompt: str
    step: str
    q: float
    visits: int = 0
    depth: int = -1
    source: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """A whole solution and whether its answer is right: what an ORM learns. prompt: the policy's prompt."""

    prompt: str
    response: str
    right: bool
    source: Provenance = field(default_factory=Provenance)


Row = SftRow | PairRow | ValueRow | OutcomeRow
ROW_KINDS: dict[RowKind, type[Row]] = {"sft": SftRow, "pairs": PairRow, "values": ValueRow, "outcomes": OutcomeRow}
"""The kind of a data file and the type of its rows."""
