"""Intervals, paired tests and agreement of cells."""

from __future__ import annotations

from itertools import product

import pytest

from rstar_eval.leaderboards.cells import (
    agree_with_order,
    agree_with_value,
    difference_of,
    interval_of,
    problem_means,
    sign_flip,
)
from rstar_eval.stats import wilson


def exact_sign_flip(values: list[float]) -> float:
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=len(values))
    ]
    return sum(one >= abs(sum(values)) - 1e-9 for one in sums) / len(sums)


@pytest.mark.parametrize("values", [[1.0, 1, 1, 1, 1, 1, -1], [0.5, -0.25, 1, 1, 0.75], [1.0, -1, 1, -1]])
def test_sign_flip_is_the_permutation_test(values: list[float]) -> None:
    assert sign_flip(values, draws=20_000) == pytest.approx(exact_sign_flip(values), abs=0.015)


def test_equal_methods_have_p_1_and_a_clear_one_does_not() -> None:
    assert sign_flip([0.0] * 9) == 1.0
    assert sign_flip([1.0] * 40) < 0.001


def test_one_seed_has_wilsons_interval_several_the_bootstrap_over_problems() -> None:
    one = {0: {f"p{i}": float(i < 6) for i in range(10)}}
    assert interval_of(one, share=True) == wilson(6, 10)
    several = {seed: {f"p{i}": float(i < 6 + seed) for i in range(10)} for seed in (0, 1, 2)}
    low, high = interval_of(several, share=True)
    assert 0.3 < low < 0.7 < high <= 1.0
    assert interval_of({0: {"a": 0.0, "b": 0.0}, 1: {"a": 0.0, "b": 0.0}}, share=True) == wilson(0, 2)  # not [0, 0]


def test_problem_means_are_over_the_seeds_that_have_the_problem() -> None:
    assert problem_means({0: {"a": 1.0, "b": 0.0}, 1: {"a": 0.0}}) == {"a": 0.5, "b": 0.0}


def test_a_difference_is_paired_by_problem_and_seed() -> None:
    new = {0: {"a": 1.0, "b": 1.0, "c": 0.0}, 1: {"a": 1.0, "b": 0.0}}
    old = {0: {"a": 0.0, "b": 1.0}, 2: {"a": 0.0}}
    found = difference_of(new, old, "old")
    assert found is not None
    assert (found.n, found.mean) == (2, 0.5)  # seed 0 alone is in both, and of it a and b
    assert found.error == pytest.approx(0.5)
    assert difference_of(new, {2: {"a": 0.0}}, "old") is None


def difference(mean: float, n: int = 30) -> object:
    """A difference of `mean` on problems of which every fifth has the other sign."""
    values = {f"p{i}": mean * (1 if i % 5 else -1) for i in range(n)}
    return difference_of({0: values}, {0: dict.fromkeys(values, 0.0)}, "x")


@pytest.mark.parametrize(
    ("published", "mean", "agreed"),
    [(3.0, 0.5, "yes"), (-3.0, 0.5, "no"), (3.0, -0.5, "no"), (0.0, 0.5, "no"), (None, 0.5, "-")],
)
def test_agreement_of_order(published: float | None, mean: float, agreed: str) -> None:
    assert agree_with_order(published, difference(mean)) == agreed  # type: ignore[arg-type]


def test_an_interval_around_0_leaves_the_order_open() -> None:
    noise = difference_of({0: {f"p{i}": float(i % 2) for i in range(20)}}, {0: {f"p{i}": 0.5 for i in range(20)}}, "x")
    assert agree_with_order(3.0, noise) == "open"
    assert agree_with_order(0.0, noise) == "yes"
    assert agree_with_order(3.0, None) == "-"


def test_agreement_of_values() -> None:
    assert [agree_with_value(50.0, edges) for edges in ((40.0, 60.0), (51.0, 60.0), None)] == ["yes", "no", "-"]
