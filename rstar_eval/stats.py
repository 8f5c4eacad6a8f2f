"""Statistics of a run: intervals, and what k samples a problem would have given.

Sampling variance (other samples, same questions) and question variance (other questions of the same kind) are apart:
the Wilson interval here is of the second kind; pass@k and maj@k average over which k of the n samples are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution: two-sided 95 % intervals."""


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval (low, high), both in [0, 1], for `successes` of `n` (Wilson 1927).

    `n` = 0 gives (0.0, 1.0): nothing is known. ValueError unless 0 <= successes <= n.

    >>> tuple(round(x, 4) for x in wilson(8, 10))
    (0.4902, 0.9433)
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..{n}, got {successes}")
    if n == 0:
        return (0.0, 1.0)
    share, z2 = successes / n, z * z
    centre = share + z2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return (max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k samples is right, from `correct` of `n`.

    1 - C(n-c, k) / C(n, k), Chen et al. 2021 (arXiv 2107.03374), section 2.1. ValueError unless 1 <= k <= n.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in 1..{n}, got {k}")
    if n - correct < k:
        return 1.0
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority_right(classes: Sequence[int | None], right: Sequence[bool]) -> float:
    """Return the chance that a majority vote is right when ties are broken by a fair draw.

    `classes[i]` is the answer class of sample i (None: no answer, no vote); `right[i]` whether it is correct. Classes,
    not samples, win: all members of a class share the verdict of its first member. Without any vote the result is 0.
    """
    votes: dict[int, int] = {}
    verdict: dict[int, bool] = {}
    for group, ok in zip(classes, right, strict=True):
        if group is not None:
            votes[group] = votes.get(group, 0) + 1
            verdict.setdefault(group, ok)
    if not votes:
        return 0.0
    top = max(votes.values())
    winners = [group for group, count in votes.items() if count == top]
    return sum(verdict[group] for group in winners) / len(winners)


def maj_at_k(
    classes: Sequence[int | None], right: Sequence[bool], ks: Sequence[int], *, draws: int = 256
) -> list[float]:
    """Return, for each k of `ks`, the mean of `majority_right` over subsets of k samples.

    All subsets are taken where there are at most `draws`; else the first k places of `draws` fixed random orders (the
    same orders for every problem with as many samples). ValueError unless 1 <= k <= n.
    """
    n = len(classes)
    for k in ks:
        if not 1 <= k <= n:
            raise ValueError(f"k must lie in 1..{n}, got {k}")
    exact = {k: _mean_over_all_subsets(classes, right, k) for k in ks if math.comb(n, k) <= draws}
    sampled = _mean_over_orders(classes, right, draws) if len(exact) < len(set(ks)) else []
    return [exact[k] if k in exact else sampled[k - 1] for k in ks]


def _mean_over_all_subsets(classes: Sequence[int | None], right: Sequence[bool], k: int) -> float:
    subsets = list(combinations(range(len(classes)), k))
    return sum(majority_right([classes[i] for i in one], [right[i] for i in one]) for one in subsets) / len(subsets)


def _mean_over_orders(classes: Sequence[int | None], right: Sequence[bool], draws: int) -> list[float]:
    """Return the mean share of right winners after the first 1, 2, ..., n samples of each random order."""
    import numpy as np

    n = len(classes)
    labels = sorted({group for group in classes if group is not None})
    if not labels:
        return [0.0] * n
    member = np.array([[group == label for label in labels] for group in classes], dtype=np.int32)
    verdict = np.array([right[classes.index(label)] for label in labels])
    order = np.argsort(np.random.default_rng(n).random((draws, n)), axis=1)
    votes = member[order].cumsum(axis=1)  # draws x n x classes
    winners = (votes == votes.max(axis=2, keepdims=True)) & (votes > 0)
    shares = (winners & verdict).sum(axis=2) / np.maximum(winners.sum(axis=2), 1)
    return [float(one) for one in shares.mean(axis=0)]


def curve_points(n: int) -> list[int]:
    """Return the k at which curves over the number of samples are given: powers of two below n, and n itself.

    >>> curve_points(12)
    [1, 2, 4, 8, 12]
    """
    points = [1 << i for i in range(n.bit_length()) if 1 << i < n]
    return [*points, n] if n >= 1 else []
