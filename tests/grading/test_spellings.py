"""Reference answers with many spellings each: those that are equal, and near-misses that differ.

A line: {"kind", "gold", "equal": [...], "different": [...]}. References are short answers of every kind of the
conventions in docs/grading.md. spellings.jsonl is written by hand; unseen.jsonl holds the three batches that were
measured at first sight (docs/grading.md), by hand and as sympy prints.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstar_eval.grading import grade

ROWS = [
    json.loads(line)
    for name in ("spellings.jsonl", "unseen.jsonl")
    for line in Path(__file__).with_name(name).read_text().splitlines()
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kind']}: {row['gold']}" for row in ROWS])
def test_equal_spellings_are_correct_and_near_misses_wrong(row: dict[str, str | list[str]]) -> None:
    gold = str(row["gold"])
    refused = [text for text in row["equal"] if grade(gold, text).outcome != "correct"]
    accepted = [text for text in row["different"] if grade(gold, text).outcome != "wrong"]
    assert (refused, accepted) == ([], [])


def test_the_file_covers_every_kind_both_ways() -> None:
    kinds = {row["kind"] for row in ROWS}
    assert len(kinds) >= 22
    for kind in kinds:
        assert any(row["equal"] for row in ROWS if row["kind"] == kind), kind
        assert any(row["different"] for row in ROWS if row["kind"] == kind), kind
