"""The data engine: from search trees to data sets for the policy and the reward models, as JSON lines with a manifest.

    sft.jsonl pairs.jsonl values.jsonl outcomes.jsonl random.jsonl rejection.jsonl manifest.json

The same trees and settings give the same bytes. Rules: docs/training.md; paper, sections 3.3 and 3.4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from rstar_eval.errors import UserError, nearest
from rstar_eval.serial import from_data, line
from rstar_eval.training.files import write_bytes
from rstar_eval.training.released import read_released, to_rows
from rstar_eval.training.rows import ROW_KINDS, SCHEMA, OutcomeRow, PairRow, Row, RowKind, SftRow, ValueRow
from rstar_eval.training.statistics import problem_key, statistics

MANIFEST = "manifest.json"
FILES: dict[str, RowKind] = {
    "sft": "sft", "pairs": "pairs", "values": "values", "outcomes": "outcomes", "random": "sft", "rejection": "sft",
}  # fmt: skip
"""The data sets of a folder (NAME.jsonl) and the kind of their rows."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """How data is taken from trees.

    solutions: verified solutions a problem for SFT, over all its trees (paper: the top 2 by mean Q).
    pair_rule: `paper`: top 2 against bottom 2 children by Q at each node (3.3), final pairs by whole trajectories;
        `sampled`: by W, the share of right answers below a node weighted by how often the policy sampled each step.
    min_margin: least difference of the two values of a pair (both rules). min_edit: least edit distance of the two
        texts as a share of the longer one, from 0 to 1. drop_same_values: whether a pair goes whose steps compute the
        same values (asked of the sandbox).
    step_pairs, final_pairs: most pairs a problem, the widest of each prompt first (None: all).
    good_share, good_floor, bad_share, min_samples: rule `sampled`: a chosen step has W >= good_share * best sibling's W
        and >= good_floor, a rejected one W <= bad_share * best sibling's W, both over >= min_samples samples.
    min_visits: rows of `values` need a Q of at least so many visits. label_rows: most right and most wrong solutions a
        problem in `outcomes` (None: all).
    seed: of the random choices (random, rejection, outcomes).
    """

    solutions: int = 2
    pair_rule: Literal["paper", "sampled"] = "paper"
    min_margin: float = 0.0
    min_edit: float = 0.0
    drop_same_values: bool = False
    step_pairs: int | None = None
    final_pairs: int | None = None
    good_share: float = 0.8
    good_floor: float = 0.35
    bad_share: float = 0.15
    min_samples: int = 6
    min_visits: int = 1
    label_rows: int | None = None
    seed: int = 0


PAPER_DATA = DataConfig()
"""The settings of preset `paper`."""
MINI_DATA = DataConfig(
    pair_rule="sampled", min_samples=3, drop_same_values=True, step_pairs=3, final_pairs=2, label_rows=4
)
"""The settings of preset `mini`: the pair rule that worked for a tiny model. A node has four candidates there."""

DATA_PRESETS: dict[str, DataConfig] = {"paper": PAPER_DATA, "mini": MINI_DATA}


def make_data_config(start: DataConfig, changes: Mapping[str, Any]) -> DataConfig:
    """Return `start` with `changes`. UserError for an unknown setting or a value of the wrong type."""
    known = [one.name for one in fields(DataConfig)]
    for key in changes:
        if key not in known:
            raise UserError(f"unknown data setting {key!r}", nearest(key, known))
    return from_data(DataConfig, {**asdict(start), **changes}, "data settings")


@dataclass(slots=True)
class DataSets:
    """All data sets of one set of trees, rows in the order of the trees.

    random, rejection: the solutions that Table 7 compares with `sft`: the same number a problem, drawn among all
    answered solutions, or among the right ones. dropped: pairs left out, by reason. trees, problems, solved: what the
    rows come from; solved: problems with a right solution.
    """

    sft: list[SftRow] = field(default_factory=list)
    pairs: list[PairRow] = field(default_factory=list)
    values: list[ValueRow] = field(default_factory=list)
    outcomes: list[OutcomeRow] = field(default_factory=list)
    random: list[SftRow] = field(default_factory=list)
    rejection: list[SftRow] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    trees: int = 0
    problems: int = 0
    solved: int = 0

    def rows(self, name: str) -> list[Any]:
        """Return the rows of the data set `name`. KeyError if there is none of this name."""
        if name not in FILES:
            raise KeyError(name)
        return getattr(self, name)  # type: ignore[no-any-return]


def write_datasets(folder: Path, sets: DataSets, config: DataConfig, **facts: object) -> dict[str, Any]:
    """Write every data set as JSON lines, and manifest.json with counts, sha256, statistics, the settings and `facts`
    (what the trees were). Atomic; the same input gives the same bytes. Returns the manifest."""
    written = {}
    for name in FILES:
        rows = sets.rows(name)
        digest = write_rows(folder / f"{name}.jsonl", rows)
        written[name] = {"file": f"{name}.jsonl", "rows": len(rows), "sha256": digest, "statistics": statistics(rows)}
    manifest = {
        "schema": SCHEMA,
        "config": asdict(config),
        **facts,
        "trees": sets.trees,
        "problems": sets.problems,
        "solved": sets.solved,
        "dropped_pairs": dict(sorted(sets.dropped.items())),
        "data": written,
    }
    write_bytes(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return manifest


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Return rows as JSON lines: ASCII, fields in their order, the same bytes for the same rows."""
    return "".join(line(asdict(row)) + "\n" for row in rows).encode("ascii")


def write_rows(path: Path, rows: Sequence[Row]) -> str:
    """Write rows as JSON lines, atomically; returns the sha256 of the bytes. UserError if the file can't be written."""
    data = encode_rows(rows)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def rows_digest(rows: Iterable[Row]) -> str:
    """Return the sha256 that `write_rows` would return."""
    return hashlib.sha256(encode_rows(rows)).hexdigest()


def read_rows(path: Path, kind: RowKind) -> list[Any]:
    """Read rows of one kind from our JSON lines or from the authors' released JSON (`sft` and `pairs`).

    UserError naming file, line and field if a row does not fit, and for a file without rows.
    """
    if not is_ours(path):
        released = read_released(path)
        if released.kind != kind:
            raise UserError(f"{str(path)!r} holds {_WORDS[released.kind]}", f"here {_WORDS[kind]} are needed")
        return to_rows(released)
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            where = f"{str(path)!r} line {number}"
            try:
                data = json.loads(text)
            except ValueError:
                raise UserError(f"{where} is no JSON", "make the data set again, or remove the line") from None
            other = _kind_of(data)
            if other is not None and other != kind:
                raise UserError(f"{where} is of {_WORDS[other]}", f"here {_WORDS[kind]} are needed")
            rows.append(from_data(ROW_KINDS[kind], data, where))
    return rows


def kind_of_file(path: Path) -> RowKind:
    """Return the kind of a file's rows, by its first row. UserError if it can't be read or is of no known kind."""
    if not is_ours(path):
        return read_released(path).kind
    kind = _kind_of(json.loads(_first_line(path)))
    if kind is None:
        raise UserError(f"{str(path)!r} line 1 is no row of a known kind", f"known kinds: {', '.join(ROW_KINDS)}")
    return kind


def latest(rounds: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the union of several rounds' rows by problem: of each problem the rows of the last round that has any.
    For the SFT data of round n: `latest([round 1's sft, ..., round n's sft])`. In the order of first appearance."""
    order: dict[str, None] = {}
    newest: dict[str, list[Any]] = {}
    for rows in rounds:
        found: dict[str, list[Any]] = {}
        for row in rows:
            found.setdefault(problem_key(row), []).append(row)
        order.update(dict.fromkeys(found))
        newest.update(found)
    return [row for key in order for row in newest[key]]


_WORDS: dict[RowKind, str] = {
    "sft": "SFT rows", "pairs": "preference pairs", "values": "step values", "outcomes": "labelled solutions",
}  # fmt: skip


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            first = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise UserError(f"can't read {str(path)!r}: {why}", "give a data file") from None
    if not first.strip():
        raise UserError(f"{str(path)!r} holds no rows", "give a data file with at least one")
    return first


def is_ours(path: Path) -> bool:
    """Return whether a file's rows have provenance, as ours do. UserError if it can't be read or is empty."""
    try:
        data = json.loads(_first_line(path))
    except ValueError:
        return False
    return isinstance(data, dict) and isinstance(data.get("source"), dict)


def _kind_of(data: object) -> RowKind | None:
    marks: dict[str, RowKind] = {"question": "sft", "pos": "pairs", "q": "values", "right": "outcomes"}
    return next((kind for mark, kind in marks.items() if isinstance(data, dict) and mark in data), None)
