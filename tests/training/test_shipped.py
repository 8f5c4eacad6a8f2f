"""The shipped weights give the shipped figures."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import pytest

from rstar_eval.embedded import checkpoint, checkpoints

pytest.importorskip("torch")

from rstar_eval.training.evolve_config import evolve_preset
from rstar_eval.training.ship import FIGURES, measure

POLICIES = ["r0", "r1", "r2", "r3", "r4"]
MINI = evolve_preset("mini")


def figures(name: str) -> dict[str, dict[str, object]]:
    return json.loads((checkpoint(name) / FIGURES).read_text(encoding="utf-8"))


def differing(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_every_round_and_every_kind_of_reward_model_is_there_with_its_card() -> None:
    names = [*POLICIES, "ppm1", "ppm2", "ppm3", "ppm4", "ppm", "pqm", "orm"]
    assert sorted(names) == list(checkpoints())
    for name in names:
        folder = checkpoint(name)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*"))
        assert size < 3_000_000  # a reward model carries the policy that it is held against
        assert "rstar-eval evolve --preset mini" in (folder / "README.md").read_text()
        assert (folder / FIGURES).exists() == (name in POLICIES)


def test_the_figures_tell_the_story_of_the_rounds() -> None:
    shares = [figures(name)["greedy"]["correct"] / figures(name)["greedy"]["n"] for name in POLICIES]  # type: ignore[operator]
    assert shares[4] > shares[1] > shares[0] + 0.2
    assert "final" in figures("r4"), "the search with the PPM that has seen the final policy's own trees"
    for name in POLICIES:
        for figure in figures(name).values():
            assert figure["correct"] == str(figure["verdicts"]).count("1")
            assert figure["n"] == len(str(figure["verdicts"]))


def test_the_last_policy_gives_its_figures_on_some_problems() -> None:
    """The problems go through the levels in turn. Other processors round otherwise, which tips a near tie."""
    shipped = str(figures("r4")["greedy"]["verdicts"])[:60]
    found = measure(checkpoint("r4"), MINI, 60)
    assert differing(found["verdicts"], shipped) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_shipped_weights_give_the_shipped_figures(name: str) -> None:
    shipped = figures(name)
    found = measure(checkpoint(name), MINI, MINI.greedy_limit)
    assert differing(found["verdicts"], str(shipped["greedy"]["verdicts"])) <= 0.02 * found["n"]
    for way in {"system2", "final"} & set(shipped):
        reward = MINI.reward("ppm", f"embedded/ppm{name[1:] if way == 'system2' else ''}")
        found = measure(checkpoint(name), MINI, MINI.system2_limit, reward)
        # The search samples: on another processor it may take other ways to about as many right answers.
        apart = differing(found["verdicts"], str(shipped[way]["verdicts"]))
        assert abs(found["correct"] - int(str(shipped[way]["correct"]))) <= 2 * sqrt(apart) + 1
