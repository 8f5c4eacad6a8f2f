"""A run's figures, always computed from its log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.records import OUTCOMES, GradeRecord, Log, SearchRecord, read_log
from rstar_eval.solver.types import Budget
from rstar_eval.stats import curve_points, maj_at_k, pass_at_k, wilson
from rstar_eval.store import read_manifest


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


def summarise(path: Path, *, only: Collection[str] | None = None) -> RunSummary:
    """Return the figures of the run in folder `path`, of all its problems or of the problem ids in `only`.

    UserError if the folder is no run.
    """
    manifest = read_manifest(path)
    log = read_log(path)
    grader = manifest["grader"]
    summaries = []
    for task in manifest["data"]:
        grades = [
            record
            for (name, problem, who, version), record in log.grades.items()
            if name == task
            and (who, version) == (grader["name"], grader["version"])
            and (only is None or problem in only)
        ]
        summaries.append(_summarise_task(task, grades, log, manifest["config"]))
    return RunSummary(path, manifest, tuple(summaries))


def _summarise_task(task: str, grades: list[GradeRecord], log: Log, config: Mapping[str, Any]) -> TaskSummary:
    wanted = {record.problem for record in grades}
    searches = [record for record in log.searches.values() if record.task == task and record.problem in wanted]
    counts = {outcome: sum(record.outcome == outcome for record in grades) for outcome in OUTCOMES}
    n, correct = len(grades), counts["correct"]
    budget = Budget()
    ends: dict[str, int] = {}
    trajectories = 0
    for search in searches:
        budget.add(search.budget)
        for one in search.trajectories:
            trajectories += 1
            ends[one.end] = ends.get(one.end, 0) + 1
    verdicts = [one.outcome == "correct" for record in grades for one in record.trajectories]
    return TaskSummary(
        task=task,
        n=n,
        accuracy=correct / n if n else 0.0,
        interval=wilson(correct, n),
        correct=correct,
        wrong=counts["wrong"],
        no_answer=counts["no_answer"],
        grader_error=counts["grader_error"],
        avg=sum(verdicts) / len(verdicts) if verdicts else 0.0,
        tokens=budget.completion_tokens,
        prompt_tokens=budget.prompt_tokens,
        seconds=_wall_seconds(searches),
        budget=budget,
        trajectories=trajectories,
        steps_run=budget.code_runs,
        steps_ok=budget.code_ok,
        ends=dict(sorted(ends.items(), key=lambda item: -item[1])),
        curve=_curve(grades),
        levels=_levels(grades),
        spared=_spared(searches, config) if config.get("early_stop") else 0,
    )


def _spared(searches: list[SearchRecord], config: Mapping[str, Any]) -> int:
    """Trajectories that decided votes made needless: of searches that ended so, and of trees that were not grown."""
    share = int(config["rollouts"]) // int(config["trees"])
    grown: dict[str, int] = {}
    for search in searches:
        grown[search.problem] = grown.get(search.problem, 0) + 1
    within = sum(share - len(search.trajectories) for search in searches if search.end == "decided")
    return within + sum(int(config["trees"]) - count for count in grown.values()) * share


def _wall_seconds(searches: list[SearchRecord]) -> float:
    """Sum over sessions of the time from the task's first search's start to its last search's end."""
    spans: dict[int, tuple[float, float]] = {}
    for search in searches:
        timing = search.timing
        low, high = spans.get(timing.session, (timing.started, timing.ended))
        spans[timing.session] = (min(low, timing.started), max(high, timing.ended))
    return sum(high - low for low, high in spans.values())


def _curve(grades: list[GradeRecord]) -> tuple[CurvePoint, ...]:
    """Every point is a mean over all problems; one with fewer than k trajectories (an exhausted tree, a spent budget, a
    decided vote) counts with all that it has."""
    ks = curve_points(max((len(record.trajectories) for record in grades), default=0))
    passed, voted = [0.0] * len(ks), [0.0] * len(ks)
    for record in grades:
        size = len(record.trajectories)
        if not size:
            continue
        right = [one.outcome == "correct" for one in record.trajectories]
        votes = maj_at_k([one.group for one in record.trajectories], right, [min(k, size) for k in ks])
        for place, k in enumerate(ks):
            passed[place] += pass_at_k(size, sum(right), min(k, size))
            voted[place] += votes[place]
    n = len(grades)
    return tuple(CurvePoint(k, p / n, v / n) for k, p, v in zip(ks, passed, voted, strict=True))


def _levels(grades: list[GradeRecord]) -> tuple[LevelScore, ...]:
    scores = []
    for label in sorted({record.level for record in grades if record.level is not None}):
        outcomes = [record.outcome == "correct" for record in grades if record.level == label]
        n, correct = len(outcomes), sum(outcomes)
        scores.append(LevelScore(label, n, correct / n, wilson(correct, n)))
    return tuple(scores)
