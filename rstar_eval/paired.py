"""Statistics of two runs on the same problems, and of one run's sources of variance.

Two variances are kept apart throughout. *Question variance*: other problems of the same kind would have given other
figures. *Sampling variance*: the same problems, solved again with other seeds, would have. The paired tests here treat
the problems as the random draw and keep each problem's samples together (clusters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DRAWS = 10_000
"""Bootstrap resamples: the edges of a 95 % interval then vary by about 1 % of its width between seeds."""
_CHUNK = 2_000_000  # cells of one block of resampling counts, so that a large task does not take gigabytes


@dataclass(frozen=True, slots=True)
class Variance:
    """The squared standard error of a mean accuracy over problems and its two parts.

    total: with new problems and new samples. sampling: with new samples of the same problems (None where some problem
    has one sample only: it can't be told apart then). question: what is left for the choice of the problems.
    """

    total: float
    sampling: float | None
    question: float | None


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    `only_a` problems only the first run solved, `only_b` only the second. Under the hypothesis of equal runs a
    discordant problem falls on either side with chance 1/2 (binomial). 1.0 without discordant problems. ValueError for
    a negative count.

    >>> mcnemar_exact(1, 5)
    0.21875
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts must be 0 or more, got {only_a} and {only_b}")
    n, low = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(low + 1))
    return min(1.0, 2 * tail / (1 << n))


def clustered_bootstrap(
    values: Sequence[float], *, seed: int = 0, draws: int = DRAWS, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`, one value a problem.

    A problem with several samples comes in as their mean, so that whole problems are drawn again, never single
    samples. The same seed gives the same edges. ValueError without values, or unless 0 < level < 1.
    """
    import numpy as np

    if not values:
        raise ValueError("the bootstrap needs at least one value")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    n = len(values)
    data, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, max(1, _CHUNK // n)):
        rows = min(max(1, _CHUNK // n), draws - start)
        means[start : start + rows] = data[rng.integers(0, n, size=(rows, n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def detectable_difference(n: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference of two paired accuracies that `n` problems show with chance `power`.

    `discordant` is the share of problems that one run alone solves. Solves Connor's sample-size formula (Biometrics
    1987) n = (z_a sqrt(p) + z_b sqrt(p - d^2))^2 / d^2 for d; no difference can exceed p, so that p itself is returned
    where n is too small for any. 1.0 for `n` = 0. ValueError unless 0 <= discordant <= 1.

    >>> round(detectable_difference(500, 0.2), 3)
    0.056
    """
    from scipy.stats import norm

    if not 0 <= discordant <= 1:
        raise ValueError(f"discordant must lie in 0..1, got {discordant}")
    if n == 0:
        return 1.0
    za, zb = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    low, high = 0.0, discordant
    for _ in range(80):
        middle = (low + high) / 2
        needed = za * math.sqrt(discordant) + zb * math.sqrt(max(0.0, discordant - middle * middle))
        low, high = (middle, high) if needed > middle * math.sqrt(n) else (low, middle)
    return high


def variance_parts(counts: Sequence[tuple[int, int]]) -> Variance:
    """Return where the error of a mean accuracy comes from; `counts[i]` is (right samples, samples) of problem i.

    total = s^2(p_i) / n over the problems' shares p_i; sampling = the mean of the unbiased p_i (1 - p_i) / (k_i - 1),
    over n; question = what remains, never below 0. ValueError for fewer than two problems or an impossible count.
    """
    n = len(counts)
    if n < 2:
        raise ValueError(f"variance needs at least two problems, got {n}")
    for right, k in counts:
        if not 0 <= right <= k or k == 0:
            raise ValueError(f"a problem has {right} right of {k} samples")
    shares = [right / k for right, k in counts]
    mean = math.fsum(shares) / n
    total = math.fsum((share - mean) ** 2 for share in shares) / (n - 1) / n
    if any(k < 2 for _, k in counts):
        return Variance(total, None, None)
    within = (share * (1 - share) / (k - 1) for share, (_, k) in zip(shares, counts, strict=True))
    sampling = math.fsum(within) / n / n
    return Variance(total, sampling, max(0.0, total - sampling))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for having made all these comparisons (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted
