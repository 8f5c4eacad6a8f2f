"""Paired statistics against scipy, statsmodels and direct computation."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from rstar_eval.paired import clustered_bootstrap, detectable_difference, holm, mcnemar_exact, variance_parts


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (1, 0), (3, 3), (5, 1), (0, 20), (40, 61), (300, 250)])
def test_mcnemar_agrees_with_scipy_and_statsmodels(b: int, c: int) -> None:
    p = mcnemar_exact(b, c)
    assert p == pytest.approx(float(mcnemar([[0, b], [c, 0]], exact=True).pvalue), abs=1e-12)
    if b + c:
        assert p == pytest.approx(scipy_stats.binomtest(b, b + c).pvalue, abs=1e-12)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        mcnemar_exact(-1, 2)
    with pytest.raises(ValueError, match="at least one value"):
        clustered_bootstrap([])
    with pytest.raises(ValueError, match="level"):
        clustered_bootstrap([1.0], level=1.0)
    with pytest.raises(ValueError, match="discordant"):
        detectable_difference(10, 1.5)
    with pytest.raises(ValueError, match="two problems"):
        variance_parts([(1, 2)])
    with pytest.raises(ValueError, match="3 right of 2"):
        variance_parts([(1, 2), (3, 2)])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_holm_agrees_with_statsmodels(n: int) -> None:
    rng = random.Random(n)
    p_values = [round(rng.random() ** 3, 2) for _ in range(n)]  # rounded: some are equal
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx([min(1.0, float(p)) for p in expected], abs=1e-12)


def test_the_bootstrap_of_few_problems_is_the_exact_distribution() -> None:
    # Three problems: 27 equally likely resamples; the mean is 1 in 1 of them, so the 97.5 % point is 1.
    low, high = clustered_bootstrap([0.0, 0.0, 1.0], draws=20_000)
    assert (low, high) == (0.0, 1.0)
    assert clustered_bootstrap([0.25] * 7) == (0.25, 0.25)


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_problems() -> None:
    rng = random.Random(3)
    values = [rng.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(3000)]
    low, high = clustered_bootstrap(values, seed=1)
    half = 1.96 * statistics.pstdev(values) / math.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)
    assert (high + low) / 2 == pytest.approx(statistics.fmean(values), abs=0.1 * half)


def test_the_same_seed_gives_the_same_interval_whatever_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [math.sqrt(i) for i in range(50)]
    first = clustered_bootstrap(values, seed=5)
    assert clustered_bootstrap(values, seed=5) == first != clustered_bootstrap(values, seed=6)
    monkeypatch.setattr("rstar_eval.paired._CHUNK", 1000)
    assert clustered_bootstrap(values, seed=5) == first


@pytest.mark.parametrize(("n", "discordant"), [(100, 0.3), (500, 0.2), (2818, 0.1)])
def test_the_detectable_difference_has_the_stated_power(n: int, discordant: float) -> None:
    d = detectable_difference(n, discordant)
    rng = np.random.default_rng(0)
    up, down = (discordant + d) / 2, (discordant - d) / 2
    draws = rng.multinomial(n, [up, down, 1 - discordant], size=4000)
    z = (draws[:, 0] - draws[:, 1]) / np.sqrt(np.maximum(1, draws[:, 0] + draws[:, 1]))
    assert float((np.abs(z) > 1.96).mean()) == pytest.approx(0.8, abs=0.03)


def test_too_few_problems_detect_no_difference_below_all_discordant_ones() -> None:
    assert detectable_difference(4, 0.25) == pytest.approx(0.25)
    assert detectable_difference(0, 0.25) == 1.0


def test_variance_parts_are_what_a_simulation_shows() -> None:
    rng = np.random.default_rng(1)
    n, k = 60, 8
    truth = rng.beta(0.6, 0.8, size=n)  # fixed questions: only sampling varies
    means = rng.binomial(k, truth, size=(2000, n)).mean(axis=1) / k
    estimates = [variance_parts([(int(c), k) for c in rng.binomial(k, truth)]) for _ in range(150)]
    sampling = statistics.fmean(one.sampling for one in estimates if one.sampling is not None)
    assert sampling == pytest.approx(float(means.var()), rel=0.12)
    fresh = np.array([rng.binomial(k, rng.beta(0.6, 0.8, size=n)).mean() / k for _ in range(1500)])
    assert statistics.fmean(one.total for one in estimates) == pytest.approx(float(fresh.var()), rel=0.2)


def test_the_parts_add_up_and_single_samples_leave_them_unknown() -> None:
    parts = variance_parts([(0, 4), (4, 4), (2, 4)])
    assert parts.sampling is not None
    assert parts.question is not None
    assert parts.sampling + parts.question == pytest.approx(parts.total)
    assert parts.sampling == pytest.approx(0.25 / 3 / 9)
    alone = variance_parts([(0, 1), (1, 1), (1, 1)])
    assert (alone.sampling, alone.question) == (None, None)
    assert alone.total == pytest.approx(scipy_stats.sem([0, 1, 1]) ** 2, abs=1e-12)
