"""`rstar-eval show`: a stored run's figures, one problem's trajectories step by step, or its search trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.records import Graded, GradeRecord, Log, SearchRecord, read_log
from rstar_eval.report import print_summary
from rstar_eval.solver.types import Step, Trajectory
from rstar_eval.store import read_manifest
from rstar_eval.summary import summarise
from rstar_eval.tree_text import tree_lines, walk_lines
from rstar_eval.trees import read_tree
from rstar_eval.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[..., None]
"""Prints a text, in a `style` if one is given."""


def show_run(path: Path, console: Console) -> None:
    """Print a run's summary over everything that it holds."""
    print_summary(summarise(path), console)


def show_problem(path: Path, wanted: str, console: Console, data_dir: str | None = None) -> None:
    """Print all trajectories of one problem: steps with code, output, status, values, and the verdicts.

    `wanted` is a problem id, a beginning of one, or an index in its task (TASK/INDEX when a run has several tasks).
    UserError if the run has no such problem, or several.
    """
    searches, grade = _show_head(path, wanted, console, data_dir)
    say = say_to(console)
    number = 0
    for search in searches:
        for trajectory in search.trajectories:
            verdict = grade.trajectories[number] if grade and number < len(grade.trajectories) else None
            _show_trajectory(say, number, trajectory, verdict)
            number += 1


def show_trees(
    path: Path,
    wanted: str,
    console: Console,
    data_dir: str | None = None,
    *,
    depth: int | None = None,
    everything: bool = False,
) -> None:
    """Print the stored trees of one problem: each node with N, Q, PPM and status, the way to the chosen answer marked,
    and the walks in their order, with where each left the one before it. See tree_text.tree_lines for `depth` and
    `everything`. UserError if the run has no such problem or has not kept its trees."""
    from rstar_eval.live import say_line

    searches, grade = _show_head(path, wanted, console, data_dir)
    say = say_to(console)
    trajectories = [one for search in searches for one in search.trajectories]
    place = grade.choice.get("trajectory") if grade else None
    chosen = trajectories[place] if isinstance(place, int) else None
    in_turn = read_manifest(path)["config"]["strategy"] == "mcts"
    for search in searches:
        tree = read_tree(path, search.problem, search.tree)
        if tree is None:
            raise UserError(
                f"this run has not stored tree {search.tree} of problem {wanted!r}",
                "run it with --keep-trees and a strategy that grows trees (mcts, beam, dvts)",
            )
        nodes = tree["nodes"]
        walk = chosen.rollout if chosen is not None and chosen.tree == search.tree else None
        say("")
        say(f"--- tree {search.tree}: {len(nodes)} nodes, ended: {search.end}", style="bold")
        for line in tree_lines(nodes, chosen=walk, depth=depth, everything=everything):
            say_line(console, line)
        for line in walk_lines(nodes, chosen=walk, in_turn=in_turn):
            say_line(console, line)


def _show_head(
    path: Path, wanted: str, console: Console, data_dir: str | None
) -> tuple[list[SearchRecord], GradeRecord | None]:
    """Print the problem and its chosen answer; return its searches, and its grade if it is there."""
    manifest, log = read_manifest(path), read_log(path)
    task, problem_id = _find(log, wanted)
    source = _problem(manifest, task, problem_id, data_dir)
    trees = int(manifest["config"]["trees"])
    grader = manifest["grader"]
    grade = log.grades.get((task, problem_id, grader["name"], grader["version"]))
    searches = [log.searches[key] for tree in range(trees) if (key := (task, problem_id, tree)) in log.searches]
    say = say_to(console)
    say(f"{task} problem {searches[0].index} ({problem_id})", style="bold")
    say(source.text if source else "(the task's data is not here: question and reference answer can't be shown)")
    if source:
        say(f"reference answer: {source.answer}")
    if grade:
        say(f"chosen answer: {grade.answer} -> {grade.outcome} (rule {grade.rule}; {_choice(grade)})")
    else:
        say(f"not graded yet: {len(searches)} of {trees} trees done")
    return searches, grade


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


def _show_trajectory(say: Say, number: int, trajectory: Trajectory, verdict: Graded | None) -> None:
    tokens = sum(step.tokens for step in trajectory.steps)
    score = "" if trajectory.score is None else f", score {trajectory.score:.3f}"
    outcome = verdict.outcome if verdict else "not graded"
    say("")
    say(
        f"--- trajectory {number} (tree {trajectory.tree}, rollout {trajectory.rollout}): ended by {trajectory.end}, "
        f"answer {trajectory.answer} -> {outcome}, {len(trajectory.steps)} steps, {tokens} tokens{score}",
        style="bold",
    )
    print_trajectory(say, trajectory)


def print_trajectory(say: Say, trajectory: Trajectory) -> None:
    """Print the steps of a trajectory: code, output, error, value."""
    for place, step in enumerate(trajectory.steps, start=1):
        _show_step(say, place, step)


def _show_step(say: Say, place: int, step: Step) -> None:
    value = "" if step.value is None else f", value {step.value:.3f}"
    status = "no code" if step.status is None else step.status
    say(f"[{place}] {step.kind}: {status}{value}", style="cyan" if step.status in (None, "ok") else "red")
    say((step.code or step.text).strip("\n"))
    if step.output:
        say(f"    output: {step.output.rstrip()}", style="green")
    if step.error:
        say(f"    {step.error}", style="red")


def say_to(console: Console) -> Say:
    """Return what prints a line that may hold a model's text."""

    def say(text: str, style: str | None = None) -> None:
        console.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)

    return say
