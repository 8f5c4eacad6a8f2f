"""Intervals and k-sample estimates against independent computation."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from rstar_eval.stats import _mean_over_orders, curve_points, maj_at_k, majority_right, pass_at_k, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 30), (1, 30), (15, 30), (30, 30), (247, 500), (4999, 5000)])
def test_wilson_agrees_with_scipy(right: int, n: int) -> None:
    expected = scipy_stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(right, n)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_nothing_is_the_whole_range() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("right", "n"), [(-1, 3), (4, 3), (1, 0)])
def test_wilson_refuses_impossible_counts(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(right, n)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(itertools.combinations(right, k))
    assert math.isclose(pass_at_k(len(right), sum(right), k), sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_the_samples_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="k must lie"):
        pass_at_k(4, 1, k)
    with pytest.raises(ValueError, match="k must lie"):
        maj_at_k([0, 0, 1, 1], [True, True, False, False], [k])


@pytest.mark.parametrize(
    ("classes", "right", "expected"),
    [
        ([0, 0, 1], [True, True, False], 1.0),
        ([0, 1, 1], [True, False, False], 0.0),
        ([0, 1], [True, False], 0.5),
        ([0, 1, 2], [True, False, False], 1 / 3),
        ([None, None, 0], [False, False, True], 1.0),
        ([None, None], [False, False], 0.0),
    ],
)
def test_majority_counts_classes_and_shares_ties(classes: list[int | None], right: list[bool], expected: float) -> None:
    assert majority_right(classes, right) == pytest.approx(expected)


def test_maj_at_one_is_the_mean_and_at_n_the_vote() -> None:
    assert maj_at_k([0, 0, 1, 2, 0], [True, True, False, False, True], [1, 5]) == pytest.approx([3 / 5, 1.0])


@given(st.lists(st.tuples(st.none() | st.integers(0, 3), st.booleans()), min_size=1, max_size=11))
def test_sampled_maj_at_k_is_close_to_the_exact_mean(samples: list[tuple[int | None, bool]]) -> None:
    verdict = dict(reversed(samples))
    classes = [group for group, _ in samples]
    right = [group is not None and verdict[group] for group in classes]
    ks = list(range(1, len(samples) + 1))
    exact = maj_at_k(classes, right, ks, draws=10**6)
    sampled = maj_at_k(classes, right, ks, draws=1)  # only k = n has a single subset
    orders = _mean_over_orders(classes, right, 4000)
    assert sampled[-1] == exact[-1]
    assert orders == pytest.approx(exact, abs=0.05)


def test_maj_at_k_is_repeatable() -> None:
    classes = [i % 3 for i in range(40)]
    right = [group == 0 for group in classes]
    assert maj_at_k(classes, right, [7, 20]) == maj_at_k(classes, right, [7, 20])


def test_curve_points_are_powers_of_two_and_n() -> None:
    assert [curve_points(n) for n in (0, 1, 2, 3, 8, 12)] == [
        [],
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 12],
    ]
