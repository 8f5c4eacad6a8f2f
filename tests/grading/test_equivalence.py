"""Pairs by kind in equivalence.jsonl, each for a rule of the conventions: equal ones, and near-misses that stay wrong.

The file has the format of `rstar-eval grade --pairs`. A bug report becomes a line of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstar_eval.grading import grade

PAIRS = [json.loads(line) for line in Path(__file__).with_name("equivalence.jsonl").read_text().splitlines()]


def rows(label: bool) -> list[object]:
    return [
        pytest.param(pair["gold"], pair["pred"], id=f"{pair['kind']}: {pair['gold']} | {pair['pred']}")
        for pair in PAIRS
        if pair["label"] is label
    ]


@pytest.mark.parametrize(("gold", "pred"), rows(True))
def test_equivalent_answers_are_correct(gold: str, pred: str) -> None:
    given = grade(gold, pred)
    assert given.outcome == "correct", given


@pytest.mark.parametrize(("gold", "pred"), rows(False))
def test_near_misses_are_not_correct(gold: str, pred: str) -> None:
    given = grade(gold, pred)
    assert given.outcome == "wrong", given
