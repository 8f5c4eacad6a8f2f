"""`rstar-eval compare RUN_A RUN_B`: two runs on the same problems, with paired tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import UserError
from rstar_eval.paired import clustered_bootstrap, detectable_difference, holm, mcnemar_exact
from rstar_eval.records import GradeRecord, Log, read_log
from rstar_eval.store import read_manifest

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 20
"""Discordant problems that the terminal lists for each task and side unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Discordant:
    """A problem that one run alone solved ("a" or "b"), with both chosen answers and outcomes."""

    problem: str
    index: int
    solved_by: str
    answers: tuple[str | None, str | None]
    outcomes: tuple[str, str]


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """One task's comparison over the `n` problems that both runs graded; `left_out` are in one run only.

    accuracies: of A and B (shares). difference: B - A, with its 95 % bootstrap interval over problems. p: McNemar's
    exact test; p_holm: adjusted for the number of tasks compared. mean_difference: the same difference over all
    trajectories (avg@k), which has no part of the answer choice in it. detectable: the smallest difference that this
    many problems show with 80 % power, the discordant share estimated as (d + 1) / (n + 2) so that no discordant
    problem is no proof that there are none. tokens: completion tokens a problem.
    """

    task: str
    n: int
    left_out: int
    accuracies: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    mean_difference: float
    mean_interval: tuple[float, float]
    detectable: float
    tokens: tuple[float, float]
    discordant: tuple[Discordant, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs say about each other: their folders, the grader of both, the settings that differ, each task."""

    runs: tuple[str, str]
    grader: str
    settings: dict[str, tuple[Any, Any]]
    tasks: tuple[TaskComparison, ...]

    def machine(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"schema": 1, **asdict(self)}


def compare(run_a: Path | str, run_b: Path | str, *, seed: int = 0) -> Comparison:
    """Return the paired comparison of two run folders; `seed` is the bootstrap's.

    UserError if a folder holds no run, the runs were graded by different graders, hold other data under the same
    task's name, or share no graded problem.
    """
    run_a, run_b = Path(run_a), Path(run_b)
    manifests = read_manifest(run_a), read_manifest(run_b)
    grader = _same_grader(run_a, run_b, manifests)
    logs = read_log(run_a), read_log(run_b)
    drafts = []
    for task in (name for name in manifests[0]["data"] if name in manifests[1]["data"]):
        _same_data(task, manifests)
        pairs, left_out = _pairs(task, manifests, logs)
        if pairs:
            drafts.append((task, pairs, left_out))
    if not drafts:
        known = " and ".join(
            f"{path} has {', '.join(one['data'])}" for path, one in zip((run_a, run_b), manifests, strict=True)
        )
        raise UserError(f"the runs share no graded problem: {known}", "compare two runs of the same task")
    adjusted = holm([mcnemar_exact(*_discordant_counts(pairs)) for _, pairs, _ in drafts])
    tasks = tuple(
        _compare_task(task, pairs, left_out, p_holm, logs, seed)
        for (task, pairs, left_out), p_holm in zip(drafts, adjusted, strict=True)
    )
    return Comparison((str(run_a), str(run_b)), grader, _settings(manifests), tasks)


Pair = tuple[GradeRecord, GradeRecord]
Manifests = tuple[Mapping[str, Any], Mapping[str, Any]]


def _same_grader(run_a: Path, run_b: Path, manifests: Manifests) -> str:
    names = [f"{one['grader']['name']} {one['grader']['version']}" for one in manifests]
    if names[0] != names[1]:
        raise UserError(
            f"{run_a} was graded by {names[0]}, {run_b} by {names[1]}",
            f"make them equal with: rstar-eval regrade {run_b} --grader {manifests[0]['grader']['name']}",
        )
    return names[0]


def _same_data(task: str, manifests: Manifests) -> None:
    hashes = [one["data"][task]["source"].get("sha256") for one in manifests]
    if hashes[0] != hashes[1]:
        raise UserError(
            f"task {task} is other data in the two runs: sha256 {hashes[0]} and {hashes[1]}",
            "compare runs made on the same file",
        )


def _pairs(task: str, manifests: Manifests, logs: tuple[Log, Log]) -> tuple[list[Pair], int]:
    grades = []
    for manifest, log in zip(manifests, logs, strict=True):
        who = manifest["grader"]["name"], manifest["grader"]["version"]
        grades.append({one.problem: one for key, one in log.grades.items() if key[0] == task and key[2:] == who})
    shared = [problem for problem in grades[0] if problem in grades[1]]
    pairs = [(grades[0][problem], grades[1][problem]) for problem in shared]
    pairs.sort(key=lambda pair: pair[0].index)
    return pairs, len(grades[0]) + len(grades[1]) - 2 * len(shared)


def _right(grade: GradeRecord) -> bool:
    return grade.outcome == "correct"


def _share(grade: GradeRecord) -> float:
    verdicts = [one.outcome == "correct" for one in grade.trajectories]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def _discordant_counts(pairs: list[Pair]) -> tuple[int, int]:
    return sum(_right(a) > _right(b) for a, b in pairs), sum(_right(b) > _right(a) for a, b in pairs)


def _compare_task(
    task: str, pairs: list[Pair], left_out: int, p_holm: float, logs: tuple[Log, Log], seed: int
) -> TaskComparison:
    n = len(pairs)
    differences = [float(_right(b)) - float(_right(a)) for a, b in pairs]
    mean_differences = [_share(b) - _share(a) for a, b in pairs]
    only_a, only_b = _discordant_counts(pairs)
    wanted = {a.problem for a, _ in pairs}
    tokens = [
        sum(one.budget.completion_tokens for one in log.searches.values() if one.task == task and one.problem in wanted)
        for log in logs
    ]
    return TaskComparison(
        task=task,
        n=n,
        left_out=left_out,
        accuracies=(sum(_right(a) for a, _ in pairs) / n, sum(_right(b) for _, b in pairs) / n),
        difference=sum(differences) / n,
        interval=clustered_bootstrap(differences, seed=seed),
        p=mcnemar_exact(only_a, only_b),
        p_holm=p_holm,
        mean_difference=sum(mean_differences) / n,
        mean_interval=clustered_bootstrap(mean_differences, seed=seed),
        detectable=detectable_difference(n, (only_a + only_b + 1) / (n + 2)),
        tokens=(tokens[0] / n, tokens[1] / n),
        discordant=tuple(
            Discordant(a.problem, a.index, "a" if _right(a) else "b", (a.answer, b.answer), (a.outcome, b.outcome))
            for a, b in pairs
            if _right(a) != _right(b)
        ),
    )


def _settings(manifests: Manifests) -> dict[str, tuple[Any, Any]]:
    """Return each setting that differs as (value in A, value in B)."""
    a, b = (dict(one["config"]) for one in manifests)
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def print_comparison(found: Comparison, console: Console, *, all_discordant: bool = False) -> None:
    """Print the comparison: what differs in the settings, a table, and the problems that one run alone solved."""
    from rich import box
    from rich.table import Table

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"A: {found.runs[0]}\nB: {found.runs[1]}\ngrader: {found.grader}")
    for key, (a, b) in found.settings.items():
        say(f"{key}: A {a}, B {b}")
    columns = ("task", "n", "A", "B", "B - A", "95 % interval", "p", "p (Holm)")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for one in found.tasks:
        low, high = one.interval
        table.add_row(
            one.task, str(one.n), f"{one.accuracies[0]:.3f}", f"{one.accuracies[1]:.3f}", f"{one.difference:+.3f}",
            f"[{low:+.3f}, {high:+.3f}]", f"{one.p:.3g}", f"{one.p_holm:.3g}",
        )  # fmt: skip
    console.print(table)
    for one in found.tasks:
        _say_task(one, found, say, all_discordant)


def _say_task(one: TaskComparison, found: Comparison, say: Any, all_discordant: bool) -> None:
    low, high = one.mean_interval
    say(
        f"{one.task}: mean over trajectories B - A {one.mean_difference:+.3f} [{low:+.3f}, {high:+.3f}]; "
        f"smallest difference seen with 80 % power: {one.detectable:.3f}; "
        f"tokens a problem: A {one.tokens[0]:.0f}, B {one.tokens[1]:.0f}"
    )
    if one.left_out:
        say(f"  left out: {one.left_out} problems graded in one run only")
    for side, run in zip("ab", found.runs, strict=True):
        solved = [item for item in one.discordant if item.solved_by == side]
        say(f"  solved by {side.upper()} alone: {len(solved)}")
        shown = solved if all_discordant else solved[:LISTED]
        for item in shown:
            say(
                f"    {item.index}: A {item.answers[0]!r} ({item.outcomes[0]}), B {item.answers[1]!r} "
                f"({item.outcomes[1]}); rstar-eval show {run} {one.task}/{item.problem}"
            )
        if len(shown) < len(solved):
            say(f"    and {len(solved) - len(shown)} more (--all)")
