"""The plan's arithmetic, and its check against the paper."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rstar_eval.errors import UserError
from rstar_eval.training.plan import expansions, facts_for, machine, plan, text


@pytest.mark.parametrize(
    ("walks", "candidates", "levels", "most"),
    [(1, 8, 5, 5), (8, 8, 5, 33), (16, 8, 5, 57), (64, 16, 3, 81), (3, 1, 4, 4)],
)
def test_expansions(walks: int, candidates: int, levels: int, most: int) -> None:
    assert expansions(walks, candidates, levels) == most


def test_a_round_of_the_paper_by_hand() -> None:
    config, facts = facts_for("paper", None, None)
    first, second, *_ = plan(config, facts, 4)
    solution = 0.13 * 3299 / 32 + 0.57 * 5453 / 32 + 0.30 * 7889 / 32
    assert facts.problems == 747_000
    assert first.tokens == pytest.approx(747_000 * 33 * 8 * solution / 5)
    assert second.search_hours == pytest.approx(4320)
    assert second.tree_bytes == pytest.approx(747_000 * 57 * 8 * 31)
    solved = 747_000 * 0.666
    assert second.training_tokens == pytest.approx(solved * (120 + solution) * (2 * 2 + 4 * 2))


def test_the_plan_shows_its_arithmetic_and_checks_it() -> None:
    config, facts = facts_for("paper", None, None)
    costs = plan(config, facts, 4)
    shown = text(costs, facts, "paper")
    assert (
        "at most 57 expansions x 8 candidates x 36.9 tokens a step = 16,826 tokens a problem; x 747,000 = 12.6G"
        in shown
    )
    assert "round 3: 4,320 GPU-hours here, 4,320 stated: 1.00 times" in shown
    assert "674,168 solved after round 4" in shown
    assert all(source in shown for source in facts.sources.values())
    found = machine(costs, facts)
    assert sum(one["tokens"] for one in found["rounds"]) == pytest.approx(sum(cost.tokens for cost in costs))


def test_the_mini_plan_follows_its_preset_and_other_numbers() -> None:
    config, facts = facts_for("mini", None, None)
    assert facts.problems == sum(config.plan(1).fresh.values()) == sum(config.plan(4).fresh.values()) - 90
    one = plan(config, facts, 1)[-1]
    config, more = facts_for("mini", 2 * facts.problems, 2 * facts.rate)
    other = plan(config, more, 1)[-1]
    assert other.tokens == pytest.approx(2 * one.tokens)
    assert other.search_hours == pytest.approx(one.search_hours)
    assert "Checked against the paper" not in text([one], facts, "mini")
    assert [cost.number for cost in plan(config, facts, 3)] == [0, 1, 2, 3], "the base is pretrained first"
    steps = replace(config, sft=replace(config.sft, max_steps=100, batch_tokens=1000, accumulate=2))
    assert "100 steps x 2000 tokens" in "".join(plan(steps, facts, 1)[-1].lines)


@pytest.mark.parametrize(("name", "problems", "rate"), [("papr", None, None), ("mini", 0, None), ("mini", None, -1.0)])
def test_bad_plans(name: str, problems: int | None, rate: float | None) -> None:
    with pytest.raises(UserError):
        facts_for(name, problems, rate)
