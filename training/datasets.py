"""The data engine: from search trees to data sets for the policy and the reward models, as JSON lines with a manifest.

    sft.jsonl pairs.jsonl values.jsonl outcomes.jsonl random.jsonl rejection.jsonl manifest.json

The same trees and settings give the same bytes. Rules: docs/training.md; paper, sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rstar_eval.training.rows import Row, RowKind
from rstar_eval.training.trees import TrainingTree


@dataclass(frozen=True, slots=True)
class DataConfig:
    """How data is taken from trees.

    solutions: verified solutions a problem for SFT, over all its trees (paper: the top 2 by mean Q).
    pair_rule: `paper`: top 2 against bottom 2 children by Q at each node (3.3), final pairs by whole trajectories;
        `sampled`: by W, the share of right answers below a node weighted by how often the policy sampled each step.
    min_margin: least difference of the two values of a pair (both rules). min_edit: least edit distance of the two
        texts as a share of the longer one, from 0 to 1.
    step_pairs, final_pairs: most pairs a problem, the widest margins first (None: all).
    good_share, good_floor, bad_share, min_samples: rule `sampled`: a chosen step has W >= good_share * best sibling's W
        and >= good_floor, a rejected one W <= bad_share * best sibling's W, both over >= min_samples samples.
    min_visits: rows of `values` need a Q of at least so many visits.
    seed: of the random choices (random and rejection samples).
    """

    solutions: int = 2
    pair_rule: Literal["paper", "sampled"] = "paper"
    min_margin: float = 0.0
    min_edit: float = 0.0
    step_pairs: int | None = None
    final_pairs: int | None = None
    good_share: float = 0.8
    good_floor: float = 0.35
    bad_share: float = 0.15
    min_samples: int = 6
    min_visits: int = 1
    seed: int = 0


MINI_DATA = DataConfig(pair_rule="sampled", step_pairs=3, final_pairs=2)
"""The settings of preset `mini`: the pair rule that worked for a tiny model."""


@dataclass(slots=True)
class DataSets:
    """All data sets of one set of trees, rows in the order of the trees. random, rejection: the solutions that Table 7
    compares with `sft`: the same number a problem, drawn among all answered solutions, or among the right ones."""

    sft: list[Any] = field(default_factory=list)
    pairs: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)
    random: list[Any] = field(default_factory=list)
    rejection: list[Any] = field(default_factory=list)


def build(trees: Iterable[TrainingTree], config: DataConfig) -> DataSets:
    """Return all data sets of `trees`. Trees of one problem must come one after the other (solutions and caps are per
    problem); duplicates within a problem are dropped. Deterministic."""
    raise NotImplementedError


def write_datasets(folder: Path, sets: DataSets, config: DataConfig, **facts: object) -> dict[str, Any]:
    """Write every data set as JSON lines, and manifest.json with counts, sha256, statistics, the settings and `facts`
    (what the trees were). Atomic; the same input gives the same bytes. Returns the manifest."""
    raise NotImplementedError


def write_rows(path: Path, rows: Sequence[Row]) -> str:
    """Write rows as JSON lines, atomically; returns the sha256 of the bytes. UserError if the file can't be written."""
    raise NotImplementedError


def read_rows(path: Path, kind: RowKind) -> list[Any]:
    """Read rows of one kind from our JSON lines or from the authors' released JSON (`sft` and `pairs`).

    UserError naming file, line and field if a row does not fit.
    """
    raise NotImplementedError


def latest(rounds: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the union of several rounds' rows by problem: of each problem the rows of the last round that has any.
    For the SFT data of round n: `latest([round 1's sft, ..., round n's sft])`. In the order of first appearance."""
    raise NotImplementedError
