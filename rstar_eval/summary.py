"""A run's figures, always computed from its logs: in one pass over rows that are streamed, so that a run of a million
problems needs no more memory than a small one (store_index.py)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_eval.records import OUTCOMES, read_log
from rstar_eval.solver.types import Budget
from rstar_eval.stats import curve_points, maj_at_k, pass_at_k, wilson
from rstar_eval.store import read_manifest
from rstar_eval.store_index import LARGE, GradeRow, Index, LogRows, SearchRow, is_large


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What k of the stored trajectories would have given: shares in [0, 1], means over all problems, of which one with
    fewer than k trajectories counts with all that it has."""

    k: int
    pass_at_k: float
    maj_at_k: float


@dataclass(frozen=True, slots=True)
class LevelScore:
    """One level's (or subject's) problems."""

    label: str
    n: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """One task's figures.

    n: graded problems. accuracy: share whose chosen answer is correct, with its 95 % Wilson interval. no_answer,
    grader_error: counts of problems; grader errors count as not correct and are shown, never as wrong. avg: mean
    share of right trajectories (avg@k). tokens: completion tokens of all searches. seconds: wall time of the task,
    summed over sessions. curve: see CurvePoint. steps_run, steps_ok: code
    steps executed and those that ended without an error. ends: why trajectories ended. spared: trajectories that were
    not made because the vote was decided (early stop).
    """

    task: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    correct: int
    wrong: int
    no_answer: int
    grader_error: int
    avg: float
    tokens: int
    prompt_tokens: int
    seconds: float
    budget: Budget
    trajectories: int
    steps_run: int
    steps_ok: int
    ends: dict[str, int]
    curve: tuple[CurvePoint, ...]
    levels: tuple[LevelScore, ...]
    spared: int = 0

    def machine(self) -> dict[str, Any]:
        """Return the object that `--json` prints for a task."""
        return {
            "n": self.n,
            "accuracy": round(self.accuracy, 6),
            "interval": [round(edge, 6) for edge in self.interval],
            "no_answer": self.no_answer,
            "grader_error": self.grader_error,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run's manifest and the figures of its tasks, in the manifest's order."""

    path: Path
    manifest: dict[str, Any]
    tasks: tuple[TaskSummary, ...]

    def machine(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"run": str(self.path), "tasks": {one.task: one.machine() for one in self.tasks}}


def summarise(path: Path, *, only: Collection[str] | None = None, large: int = LARGE) -> RunSummary:
    """Return the figures of the run in folder `path`, of all its problems or of the problem ids in `only`.

    A run with more than `large` bytes of logs is read through its index, which is brought up to date first. UserError
    if the folder is no run or a log is damaged.
    """
    manifest = read_manifest(path)
    if not is_large(path, large):
        return RunSummary(path, manifest, _summaries(manifest, LogRows(read_log(path)), only))
    with Index(path) as index:
        return RunSummary(path, manifest, _summaries(manifest, index, only))


def _summaries(
    manifest: Mapping[str, Any], rows: LogRows | Index, only: Collection[str] | None
) -> tuple[TaskSummary, ...]:
    grader = (manifest["grader"]["name"], manifest["grader"]["version"])
    found = []
    for task in manifest["data"]:
        grades, searches = _Grades(), _Searches()
        for grade in rows.grades(task, grader):
            if only is None or grade.problem in only:
                grades.add(grade)
        for search in rows.searches(task, grader):
            if only is None or search.problem in only:
                searches.add(search)
        found.append(_task_summary(task, grades, searches, manifest["config"]))
    return tuple(found)


@dataclass(slots=True)
class _Grades:
    """Sums over a task's grades. patterns: how often each (classes, verdicts) of a problem's trajectories occurs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    levels: dict[str, list[int]] = field(default_factory=dict)
    patterns: Counter[_Pattern] = field(default_factory=Counter)

    def add(self, grade: GradeRow) -> None:
        self.outcomes[grade.outcome] += 1
        self.patterns[_canonical(grade.groups, grade.rights)] += 1
        if grade.level is not None:
            counts = self.levels.setdefault(grade.level, [0, 0])
            counts[0] += 1
            counts[1] += grade.outcome == "correct"


_Pattern = tuple[tuple[int | None, ...], tuple[bool, ...]]
_ALL_SUBSETS = 10
"""Trajectories up to which maj@k is a mean over all subsets (stats.maj_at_k), so that their order means nothing."""


def _canonical(groups: tuple[int | None, ...], rights: tuple[bool, ...]) -> _Pattern:
    """Return the pattern of a problem's trajectories without their order, where no figure depends on it: a million
    problems then have some hundred patterns, and each one's curve is computed once."""
    votes: Counter[int] = Counter(group for group in groups if group is not None)
    verdict = {group: right for group, right in zip(groups, rights, strict=True) if group is not None}
    if len(groups) > _ALL_SUBSETS or any(
        right != (group is not None and verdict[group]) for group, right in zip(groups, rights, strict=True)
    ):
        return groups, rights
    classes = sorted(((count, verdict[group]) for group, count in votes.items()), reverse=True)
    members: list[int | None] = [place for place, (count, _) in enumerate(classes) for _ in range(count)]
    members += [None] * (len(groups) - len(members))
    return tuple(members), tuple(one is not None and classes[one][1] for one in members)


@dataclass(slots=True)
class _Searches:
    """Sums over a task's searches. spans: of each session the first start and the last end (seconds)."""

    budget: Budget = field(default_factory=Budget)
    cpu: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    trajectories: int = 0
    searches: int = 0
    first_trees: int = 0
    decided: int = 0
    within: int = 0
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)

    def add(self, search: SearchRow) -> None:
        self.budget.add(search.budget)
        self.cpu.append(search.budget.cpu_seconds)
        if len(self.cpu) >= 4096:
            self.cpu = [math.fsum(self.cpu)]
        self.ends.update(search.ends)
        self.trajectories += len(search.ends)
        self.searches += 1
        self.first_trees += search.tree == 0
        if search.end == "decided":
            self.decided += 1
            self.within += len(search.ends)
        low, high = self.spans.get(search.session, (search.started, search.ended))
        self.spans[search.session] = (min(low, search.started), max(high, search.ended))


def _task_summary(task: str, grades: _Grades, searches: _Searches, config: Mapping[str, Any]) -> TaskSummary:
    counts = {outcome: grades.outcomes[outcome] for outcome in OUTCOMES}
    n, correct, budget = grades.outcomes.total(), counts["correct"], searches.budget
    budget.cpu_seconds = math.fsum(searches.cpu)
    verdicts = sum(len(rights) * count for (_, rights), count in grades.patterns.items())
    right = sum(sum(rights) * count for (_, rights), count in grades.patterns.items())
    return TaskSummary(
        task=task,
        n=n,
        accuracy=correct / n if n else 0.0,
        interval=wilson(correct, n),
        correct=correct,
        wrong=counts["wrong"],
        no_answer=counts["no_answer"],
        grader_error=counts["grader_error"],
        avg=right / verdicts if verdicts else 0.0,
        tokens=budget.completion_tokens,
        prompt_tokens=budget.prompt_tokens,
        seconds=sum(high - low for _, (low, high) in sorted(searches.spans.items())),
        budget=budget,
        trajectories=searches.trajectories,
        steps_run=budget.code_runs,
        steps_ok=budget.code_ok,
        ends=dict(sorted(searches.ends.items(), key=lambda item: (-item[1], item[0]))),
        curve=_curve(grades),
        levels=tuple(
            LevelScore(label, size, hits / size, wilson(hits, size))
            for label, (size, hits) in sorted(grades.levels.items())
        ),
        spared=_spared(searches, config) if config.get("early_stop") else 0,
    )


def _spared(searches: _Searches, config: Mapping[str, Any]) -> int:
    """Trajectories that decided votes made needless: of searches that ended so, and of trees that were not grown. With
    early stop trees are grown in their order, so that a problem's first tree stands for the problem."""
    share, trees = int(config["rollouts"]) // int(config["trees"]), int(config["trees"])
    within = searches.decided * share - searches.within
    return within + (searches.first_trees * trees - searches.searches) * share


def _curve(grades: _Grades) -> tuple[CurvePoint, ...]:
    """Every point is a mean over all problems; one with fewer than k trajectories (an exhausted tree, a spent budget, a
    decided vote) counts with all that it has."""
    ks = curve_points(max((len(rights) for _, rights in grades.patterns), default=0))
    passed: list[list[float]] = [[] for _ in ks]
    voted: list[list[float]] = [[] for _ in ks]
    for (groups, rights), count in grades.patterns.items():
        size = len(rights)
        if not size:
            continue
        votes = maj_at_k(groups, rights, [min(k, size) for k in ks])
        for place, k in enumerate(ks):
            passed[place].append(count * pass_at_k(size, sum(rights), min(k, size)))
            voted[place].append(count * votes[place])
    n = grades.outcomes.total()
    # fsum: the same figures whatever order the records come in
    return tuple(CurvePoint(k, math.fsum(p) / n, math.fsum(v) / n) for k, p, v in zip(ks, passed, voted, strict=True))
