"""From results to the curves of a figure: accuracy (or pass@N) over trajectories and over tokens, with paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rstar_eval.leaderboards.cells import Difference, difference_of, interval_of, problem_means
from rstar_eval.leaderboards.experiments import Experiment, Source
from rstar_eval.leaderboards.results import Results
from rstar_eval.leaderboards.scores import RunScores
from rstar_eval.leaderboards.tables import POOLED
from rstar_eval.leaderboards.values import curve_tokens
from rstar_eval.paired import holm


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve: trajectories, percent with its 95 % interval, completion tokens a problem (None: not known),
    problems and seeds."""

    x: int
    y: float
    interval: tuple[float, float]
    tokens: float | None
    n: int
    seeds: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a panel."""

    panel: str
    row: str
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """A paired test of curve `row` at x trajectories against `difference.against` at `other_x`: as many trajectories
    (`equal` "trajectories"), or as many as take at least the same tokens ("tokens"; short: there were not so many)."""

    panel: str
    row: str
    x: int
    equal: str
    other_x: int
    difference: Difference
    short: bool = False


@dataclass(frozen=True, slots=True)
class FigureData:
    """What a figure shows. lines: reference lines, by panel: name and percent, measured or published."""

    experiment: Experiment
    preset: str
    panels: tuple[str, ...]
    curves: tuple[Curve, ...]
    tests: tuple[Test, ...]
    lines: tuple[tuple[str, str, float], ...]


def make_curves(experiment: Experiment, results: Results) -> FigureData:
    """Return a figure's curves and tests from stored results."""
    panels = [column for column, task in experiment.columns.items() if task]
    panels += [POOLED] if results.preset.pooled else []
    curves, lines, tests = [], [], []
    for panel in panels:
        for row in experiment.rows:
            if row.role == "curve" and row.source is not None:
                points = _points(experiment, panel, row.source, results)
                if points:
                    curves.append(Curve(panel, row.id, row.name, tuple(points)))
            elif row.role == "line" and row.source is not None:
                found = _series(experiment, panel, row.source, results, [1])
                if found:
                    means = problem_means({seed: one for seed, (one, _) in found[0].items()})
                    lines.append((panel, row.name, 100 * math.fsum(means.values()) / len(means)))
        for one, other in experiment.tests:
            tests += _tests(experiment, panel, one, other, results)
    return FigureData(
        experiment, results.preset.name, tuple(panels), tuple(curves), tuple(_adjusted(tests)), tuple(lines)
    )


Series = list[dict[int, tuple[dict[str, float], float | None]]]
"""For each x: by seed, the value of each problem and the mean tokens."""


def _series(experiment: Experiment, panel: str, source: Source, results: Results, xs: Sequence[int]) -> Series | None:
    """Return a curve's values in a panel, None if no seed has all its runs. `xs` must not go beyond the trajectories
    that the runs have (`_most`)."""
    series: Series = [{} for _ in xs]
    for seed in results.seeds:
        runs = _runs(experiment, panel, source, results, seed)
        if runs is None:
            continue
        own = replace(source, judge=results.canonical(source.judge, seed) if source.judge else None)
        values: list[dict[str, float]] = [{} for _ in xs]
        tokens, known, n = [0.0] * len(xs), True, 0
        for run in runs:
            for place, found in enumerate(results.curve(run, own, xs, experiment.metric)):
                values[place] |= found
            spent = curve_tokens(run, xs)
            known = known and spent is not None
            for place, each in enumerate(spent or []):
                tokens[place] += each * len(run.problems)
            n += len(run.problems)
        for place in range(len(xs)):
            series[place][seed] = (values[place], tokens[place] / n if known and n else None)
    return series if series[0] else None


def _runs(experiment: Experiment, panel: str, source: Source, results: Results, seed: int) -> list[RunScores] | None:
    tasks = [task for column, task in experiment.columns.items() if task and panel in (column, POOLED)]
    found = [results.run(source, task, seed)[1] for task in tasks]
    whole = [one for one in found if one is not None]
    judge = results.canonical(source.judge, seed) if source.judge else None
    if len(whole) < len(tasks) or not whole:
        return None
    if judge and any(judge not in one.judges for run in whole for one in run.problems):
        return None
    return whole


def _most(experiment: Experiment, panel: str, source: Source, results: Results) -> int:
    """Return how many trajectories the runs of a curve have at most."""
    for seed in results.seeds:
        runs = _runs(experiment, panel, source, results, seed)
        if runs:
            return min(int(run.config["rollouts"]) for run in runs)
    return 0


def _points(experiment: Experiment, panel: str, source: Source, results: Results) -> list[Point]:
    xs = [x for x in experiment.x if x <= _most(experiment, panel, source, results)]
    series = _series(experiment, panel, source, results, xs) if xs else None
    points = []
    for x, by_seed in zip(xs, series or [], strict=True) if series else []:
        values = {seed: one for seed, (one, _) in by_seed.items()}
        means = list(problem_means(values).values())
        low, high = interval_of(values, share=True)
        spent = [tokens for _, tokens in by_seed.values()]
        known = [each for each in spent if each is not None]
        tokens = sum(known) / len(known) if known and len(known) == len(spent) else None
        points.append(
            Point(x, 100 * math.fsum(means) / len(means), (100 * low, 100 * high), tokens, len(means), len(values))
        )
    return points


def _tests(experiment: Experiment, panel: str, one: str, other: str, results: Results) -> list[Test]:
    """Return the tests of curve `one` against `other` at every x that both have, and at equal tokens."""
    rows = {row.id: row for row in experiment.rows}
    mine, theirs = rows[one].source, rows[other].source
    if mine is None or theirs is None:
        return []
    most = _most(experiment, panel, theirs, results)
    xs = [x for x in experiment.x if x <= _most(experiment, panel, mine, results)]
    series = _series(experiment, panel, mine, results, xs) if xs else None
    if series is None or not most:
        return []
    # Two rules on one run spend the same tokens: their second test would be the first one again.
    same_run = (mine.policy, mine.reward, mine.search) == (theirs.policy, theirs.reward, theirs.search)
    other_xs = xs if same_run else list(range(1, most + 1))
    other_series = _series(experiment, panel, theirs, results, other_xs)
    if other_series is None:
        return []
    found = []
    for x, by_seed in zip(xs, series, strict=True):
        values = {seed: each for seed, (each, _) in by_seed.items()}
        if x in other_xs:
            place = other_xs.index(x)
            same = difference_of(values, {seed: each for seed, (each, _) in other_series[place].items()}, other)
            if same is not None:
                found.append(Test(panel, one, x, "trajectories", x, same))
        equal = None if same_run else _equal_tokens(by_seed, other_series)
        if equal is not None:
            against, place, short = equal
            test = difference_of(values, against, other)
            if test is not None:
                found.append(Test(panel, one, x, "tokens", place, test, short))
    return found


def _equal_tokens(
    mine: dict[int, tuple[dict[str, float], float | None]], theirs: Series
) -> tuple[dict[int, dict[str, float]], int, bool] | None:
    """Return the other curve's values where it first takes at least as many tokens, by seed, with the largest number of
    trajectories that this took and whether some seed ran out of them. None if tokens are not known."""
    values, most, short = {}, 0, False
    for seed, (_, tokens) in mine.items():
        steps = [(place, one[seed]) for place, one in enumerate(theirs, start=1) if seed in one]
        if tokens is None or not steps or steps[0][1][1] is None:
            return None
        enough = [(place, found) for place, found in steps if (found[1] or 0.0) >= tokens]
        place, found = enough[0] if enough else steps[-1]
        values[seed], most, short = found[0], max(most, place), short or not enough
    return values, most, short


def _adjusted(tests: Sequence[Test]) -> list[Test]:
    """Adjust p-values for the tests of one panel, pair and kind (all x together)."""
    families: dict[Any, list[int]] = {}
    for place, test in enumerate(tests):
        families.setdefault((test.panel, test.row, test.difference.against, test.equal), []).append(place)
    found = list(tests)
    for places in families.values():
        for place, p in zip(places, holm([tests[each].difference.p for each in places]), strict=True):
            found[place] = replace(tests[place], difference=replace(tests[place].difference, p_holm=p))
    return found
