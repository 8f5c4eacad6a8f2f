"""A cell: what the paper published, what was measured here, over what, and whether the two agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rstar_eval.paired import clustered_bootstrap
from rstar_eval.stats import wilson

Agreement = Literal["yes", "no", "open", "not run", "-"]
"""yes, no: see `agree_with_order` and `agree_with_value`. open: too few problems to tell. -: measured, but the paper
gives nothing to hold against it."""
DRAWS = 4000
Values = Mapping[int, Mapping[str, float]]
"""By seed and problem, a value (0 to 1, or tokens)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Measured minus measured, on the same problems and seeds: the mean over problems of the mean over seeds, its
    standard error and 95 % bootstrap interval (problems drawn again), the two-sided sign-flip p-value, and the same
    adjusted for the tests made together (Holm). Not paired (no problem in common): normal interval, Welch's p-value, n
    of the smaller side."""

    against: str
    n: int
    mean: float
    error: float
    interval: tuple[float, float]
    p: float
    p_holm: float | None = None
    paired: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table. Shares are in percent as in the paper, tokens are tokens.

    interval: 95 %, Wilson over the problems (one seed), bootstrap clustered by problem (several). n: problems. seeds:
    the value of each. trajectories: N that the answer was chosen from. tokens: completion tokens a problem. manifests:
    config hashes of the runs behind it. runs: their names. why: what stands in the way of a cell that is not run.
    """

    row: str
    column: str
    published: float | None = None
    measured: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    seeds: dict[int, float] = field(default_factory=dict)
    trajectories: int | None = None
    tokens: float | None = None
    runs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    difference: Difference | None = None
    agree: Agreement = "not run"
    why: str = ""


def problem_means(values: Values) -> dict[str, float]:
    """Return each problem's mean over the seeds that have it."""
    found: dict[str, list[float]] = {}
    for by_problem in values.values():
        for problem, value in by_problem.items():
            found.setdefault(problem, []).append(value)
    return {problem: sum(each) / len(each) for problem, each in found.items()}


def interval_of(values: Values, *, share: bool) -> tuple[float, float]:
    """Return the 95 % interval of the mean: Wilson for shares of one seed (and where all problems agree, so that there
    is nothing to draw again), else bootstrap over problems."""
    means = list(problem_means(values).values())
    total = math.fsum(means)
    if share and (len(values) == 1 or len(set(means)) == 1):
        return wilson(min(total, len(means)), len(means))
    return clustered_bootstrap(means, draws=DRAWS)


def difference_of(new: Values, old: Values, against: str) -> Difference | None:
    """Return the paired difference new - old over the problems and seeds that both have. Without any: that of the means
    of independent samples (rounds with problems of their own); None if a side has fewer than two problems."""
    seeds = [seed for seed in new if seed in old]
    pairs: dict[str, list[float]] = {}
    for seed in seeds:
        for problem, value in new[seed].items():
            if problem in old[seed]:
                pairs.setdefault(problem, []).append(value - old[seed][problem])
    each = [math.fsum(found) / len(found) for found in pairs.values()]
    if not each:
        return _unpaired(list(problem_means(new).values()), list(problem_means(old).values()), against)
    n, mean = len(each), math.fsum(each) / len(each)
    variance = math.fsum((one - mean) ** 2 for one in each) / (n - 1) if n > 1 else 0.0
    return Difference(
        against, n, mean, math.sqrt(variance / n), clustered_bootstrap(each, draws=DRAWS), sign_flip(each)
    )  # fmt: skip


def _unpaired(new: Sequence[float], old: Sequence[float], against: str) -> Difference | None:
    """Return the difference of two means with its normal interval, and Welch's p-value."""
    from scipy.stats import ttest_ind

    if min(len(new), len(old)) < 2:
        return None
    mean = statistics.fmean(new) - statistics.fmean(old)
    error = math.sqrt(statistics.variance(new) / len(new) + statistics.variance(old) / len(old))
    p = float(ttest_ind(new, old, equal_var=False).pvalue) if error else 1.0
    interval = (mean - 1.96 * error, mean + 1.96 * error)
    return Difference(against, min(len(new), len(old)), mean, error, interval, p, paired=False)


def sign_flip(differences: Sequence[float], *, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of a permutation test of mean 0: if two methods are equal, each problem's difference
    is as likely to have the other sign (Good 2005). Never below 1 / (draws + 1).

    >>> sign_flip([0.0, 0.0])
    1.0
    """
    import numpy as np

    values = np.array([each for each in differences if each])
    if not len(values):
        return 1.0
    signs = np.random.default_rng(seed).integers(0, 2, size=(draws, len(values))) * 2 - 1
    reached = np.abs(signs @ values) >= abs(values.sum()) - 1e-9
    return float((reached.sum() + 1) / (draws + 1))


def agree_with_order(published: float | None, measured: Difference | None) -> Agreement:
    """Return whether the measured difference to another row goes the way of the published one: "yes" or "no" where its
    95 % interval lies on one side of 0, else "open". For presets whose problems and models are not the paper's: there
    only the order can be compared. An equal published pair agrees with whatever leaves 0 in the interval."""
    if published is None or measured is None:
        return "-"
    low, high = measured.interval
    if low <= 0 <= high:
        return "yes" if published == 0 else "open"
    return "yes" if (published > 0) == (measured.mean > 0) and published != 0 else "no"


def agree_with_value(published: float | None, interval: tuple[float, float] | None) -> Agreement:
    """Return whether the published value lies in the measured 95 % interval."""
    if published is None or interval is None:
        return "-"
    return "yes" if interval[0] <= published <= interval[1] else "no"


def scaled(unit: str) -> Callable[[float], float]:
    """Return what turns a value into the unit of a table: shares into percent, tokens stay."""
    return (lambda value: value) if unit == "tokens" else (lambda value: 100 * value)


def as_data(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain data, numbers rounded to six digits."""
    from dataclasses import asdict

    def plain(value: object) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        return value

    return dict(plain(asdict(cell)))
