"""`rstar-eval show`: a stored run's figures, or one problem's trajectories step by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.records import Graded, GradeRecord, Log, read_log
from rstar_eval.report import print_summary
from rstar_eval.solver.types import Step, Trajectory
from rstar_eval.store import read_manifest
from rstar_eval.summary import summarise
from rstar_eval.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


def show_run(path: Path, console: Console) -> None:
    """Print a run's summary over everything that it holds."""
    print_summary(summarise(path), console)


def show_problem(path: Path, wanted: str, console: Console, data_dir: str | None = None) -> None:
    """Print all trajectories of one problem: steps with code, output, status, values, and the verdicts.

    `wanted` is a problem id, a beginning of one, or an index in its task (TASK/INDEX when a run has several tasks).
    UserError if the run has no such problem, or several.
    """
    manifest, log = read_manifest(path), read_log(path)
    task, problem_id = _find(log, wanted)
    source = _problem(manifest, task, problem_id, data_dir)
    trees = int(manifest["config"]["trees"])
    grader = manifest["grader"]
    grade = log.grades.get((task, problem_id, grader["name"], grader["version"]))
    searches = [log.searches[key] for tree in range(trees) if (key := (task, problem_id, tree)) in log.searches]
    say = _printer(console)
    say(f"{task} problem {searches[0].index} ({problem_id})", style="bold")
    say(source.text if source else "(the task's data is not here: question and reference answer can't be shown)")
    if source:
        say(f"reference answer: {source.answer}")
    if grade:
        say(f"chosen answer: {grade.answer} -> {grade.outcome} (rule {grade.rule}; {_choice(grade)})")
    else:
        say(f"not graded yet: {len(searches)} of {trees} trees done")
    number = 0
    for search in searches:
        for trajectory in search.trajectories:
            verdict = grade.trajectories[number] if grade and number < len(grade.trajectories) else None
            _show_trajectory(say, number, trajectory, verdict)
            number += 1


def _find(log: Log, wanted: str) -> tuple[str, str]:
    name, slash, rest = wanted.rpartition("/")
    found = {
        (task, problem)
        for (task, problem, _), record in log.searches.items()
        if (not slash or task == name) and (str(record.index) == rest or (len(rest) >= 4 and problem.startswith(rest)))
    }
    if not found:
        raise UserError(f"this run has no problem {wanted!r}", "give an id, its first 4 or more digits, or an index")
    if len(found) > 1:
        names = ", ".join(f"{task}/{problem}" for task, problem in sorted(found))
        raise UserError(f"{wanted!r} fits several problems: {names}", "give TASK/INDEX or a longer id")
    return next(iter(found))


def _problem(manifest: Mapping[str, Any], task: str, problem_id: str, data_dir: str | None) -> Problem | None:
    """The problem with its text, if the task's data can be had without a download."""
    from rstar_eval.tasks import load_task

    where = data_dir or manifest["config"].get("data_dir")
    try:
        loaded = load_task(task, data_dir=Path(where) if where else None, download=False)
    except UserError:
        return None
    return next((one for one in loaded.problems if one.id == problem_id), None)


def _choice(grade: GradeRecord) -> str:
    votes = ", ".join(f"{answer}: {weight:g}" for answer, weight in grade.choice.get("votes", [])[:5])
    k = grade.choice.get("k")
    return f"chosen by {grade.choice.get('rule')}{f', K = {k}' if k else ''}{f'; votes {votes}' if votes else ''}"


def _show_trajectory(say: Any, number: int, trajectory: Trajectory, verdict: Graded | None) -> None:
    tokens = sum(step.tokens for step in trajectory.steps)
    score = "" if trajectory.score is None else f", score {trajectory.score:.3f}"
    outcome = verdict.outcome if verdict else "not graded"
    say("")
    say(
        f"--- trajectory {number} (tree {trajectory.tree}, rollout {trajectory.rollout}): ended by {trajectory.end}, "
        f"answer {trajectory.answer} -> {outcome}, {len(trajectory.steps)} steps, {tokens} tokens{score}",
        style="bold",
    )
    for place, step in enumerate(trajectory.steps, start=1):
        _show_step(say, place, step)


def _show_step(say: Any, place: int, step: Step) -> None:
    value = "" if step.value is None else f", value {step.value:.3f}"
    status = "no code" if step.status is None else step.status
    say(f"[{place}] {step.kind}: {status}{value}", style="cyan" if step.status in (None, "ok") else "red")
    say((step.code or step.text).strip("\n"))
    if step.output:
        say(f"    output: {step.output.rstrip()}", style="green")
    if step.error:
        say(f"    {step.error}", style="red")


def _printer(console: Console) -> Any:
    def say(text: str, style: str | None = None) -> None:
        console.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)

    return say
