"""From results to the cells of a table: the published figure, the measured one, and whether they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rstar_eval.leaderboards.cells import (
    Agreement,
    Cell,
    agree_with_order,
    agree_with_value,
    difference_of,
    interval_of,
    problem_means,
    scaled,
)
from rstar_eval.leaderboards.experiments import Experiment, Row, Source
from rstar_eval.leaderboards.results import Results
from rstar_eval.leaderboards.values import curve_tokens, problem_values
from rstar_eval.paired import holm

POOLED = "all tasks"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured for a source in a column. values: by seed and problem. tokens: completion tokens a problem
    that N trajectories took. trajectories: N. runs, manifests: their names and config hashes. why: why there is
    nothing."""

    values: dict[int, dict[str, float]] = field(default_factory=dict)
    tokens: float | None = None
    trajectories: int | None = None
    runs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A rendered table's content: the experiment and its cells by row and column (the pooled one last)."""

    experiment: Experiment
    preset: str
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def cell(self, row: str, column: str) -> Cell:
        """Return one cell."""
        return self.cells[row, column]


def make_table(experiment: Experiment, results: Results) -> Table:
    """Return the cells of a table (or of a figure's bars) from stored results."""
    preset = results.preset
    pooled = bool(preset.pooled) and experiment.metric == "accuracy"
    columns = [*experiment.columns, *([POOLED] if pooled else [])]
    found = {
        (row.id, column): measure(row.source, experiment, column, results)
        for row in experiment.rows
        for column in columns
    }
    cells = {
        (row.id, column): _cell(row, column, experiment, found, preset.name)
        for row in experiment.rows
        for column in columns
    }
    return Table(experiment, preset.name, tuple(columns), _with_holm(cells, columns))


def measure(source: Source | None, experiment: Experiment, column: str, results: Results) -> Measured:
    """Return what the results hold for a source in a column."""
    if source is None:
        return Measured(why=f"no such model at preset {results.preset.name}")
    tasks = [experiment.columns.get(column)] if column != POOLED else list(experiment.columns.values())
    if experiment.metric == "solved":
        return _solved(source, tasks[0], results)
    found, trajectories, runs, manifests = {}, source.at, [], []
    spent: list[float | None] = []
    weights: list[int] = []
    for seed in results.seeds:
        parts: dict[str, float] = {}
        whole = True
        for task in tasks:
            if task is None:
                whole = whole and column == POOLED
                continue
            run, scores = results.run(source, task, seed)
            if scores is None or (source.judge and not _judged(scores, results.canonical(source.judge, seed))):
                whole = False
                break
            own = replace(source, judge=results.canonical(source.judge, seed) if source.judge else None)
            parts |= problem_values(scores, own, experiment.metric)
            trajectories = source.at or int(scores.config["rollouts"])
            spent.append((curve_tokens(scores, [trajectories]) or (None,))[0])
            weights.append(len(scores.problems))
            runs.append(run.key)
            manifests.append(str(scores.manifest["config_hash"]))
        if whole and parts:
            found[seed] = parts
    if not found:
        missing = "no task of ours stands for this column" if tasks == [None] else "not measured"
        return Measured(why=missing)
    known = [each * weight for each, weight in zip(spent, weights, strict=True) if each is not None]
    tokens = sum(known) / sum(weights) if len(known) == len(spent) else None
    return Measured(found, tokens, trajectories, tuple(runs), tuple(dict.fromkeys(manifests)))


def _judged(scores: Any, judge: str) -> bool:
    return all(judge in one.judges for one in scores.problems)


def _solved(source: Source, levels: str | None, results: Results) -> Measured:
    """Return of each problem (of these levels) that the source's round searched whether it or one before solved it."""
    wanted = None if not levels else set(levels.split(","))
    values, runs = {}, []
    for seed, evolution in results.evolutions.items():
        number = source.solved or 0
        if levels is None or number > evolution.last:
            continue
        values[seed] = {
            problem: float(first is not None and first <= number)
            for problem, (level, drawn, first) in evolution.pool.items()
            if (wanted is None or level in wanted) and drawn in (None, number)
        }
        runs.append(f"seed{seed}/evolution")
    if not any(values.values()):
        return Measured(why="not measured")
    return Measured(values, runs=tuple(runs))


def _cell(
    row: Row, column: str, experiment: Experiment, found: Mapping[tuple[str, str], Measured], preset: str
) -> Cell:
    published, measured = row.published.get(column), found[row.id, column]
    if not measured.values:
        return Cell(row.id, column, published, why=measured.why)
    unit = scaled(experiment.unit)
    means = list(problem_means(measured.values).values())
    low, high = interval_of(measured.values, share=experiment.metric != "tokens")
    interval = (unit(low), unit(high))
    difference = None
    if row.against:
        other = found[row.against, column]
        if other.values:
            difference = difference_of(measured.values, other.values, row.against)
    return Cell(
        row=row.id,
        column=column,
        published=published,
        measured=unit(math.fsum(means) / len(means)),
        interval=interval,
        n=len(means),
        seeds={seed: unit(math.fsum(one.values()) / len(one)) for seed, one in measured.values.items()},
        trajectories=measured.trajectories,
        tokens=measured.tokens,
        runs=measured.runs,
        manifests=measured.manifests,
        difference=difference,
        agree=_agreement(row, column, experiment, preset, interval, difference),
    )


def _agreement(
    row: Row, column: str, experiment: Experiment, preset: str, interval: tuple[float, float], difference: Any
) -> Agreement:
    published = row.published.get(column)
    if preset == "paper":
        return agree_with_value(published, interval)
    if row.against is None or published is None:
        return "-"
    before = experiment.row(row.against).published.get(column)
    return agree_with_order(None if before is None else published - before, difference)


def _with_holm(cells: dict[tuple[str, str], Cell], columns: list[str]) -> dict[tuple[str, str], Cell]:
    """Adjust the p-values of each column for the number of rows compared in it."""
    for column in columns:
        keys = [key for key, cell in cells.items() if key[1] == column and cell.difference is not None]
        tests = [one for key in keys if (one := cells[key].difference) is not None]
        for key, test, adjusted in zip(keys, tests, holm([one.p for one in tests]), strict=True):
            cells[key] = replace(cells[key], difference=replace(test, p_holm=adjusted))
    return cells
