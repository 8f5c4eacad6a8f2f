"""Run folders as training trees: problems and gold answers from the run's tasks, trees or solutions from its store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.records import Log, read_log
from rstar_eval.store import read_manifest
from rstar_eval.training.rows import Provenance
from rstar_eval.training.trees import Right, TrainingTree, annotated, training_tree, tree_of


def trees_of_runs(paths: Sequence[Path], *, round: int = 0, data_dir: Path | None = None) -> list[TrainingTree]:
    """Return the search trees that runs have stored, by task and problem, then in the order of the runs and trees.

    Trees of semantics `paper` get the values of a search for training (`trees.annotated`): right or wrong by the gold
    answers, whatever guided the search. A run of a strategy without trees (greedy, majority, ...) gives one tree of
    its solutions a problem. round: for the rows' provenance.

    UserError for a folder that is no run, a tree search whose trees were not kept, or a task that can't be loaded.
    """
    found: list[tuple[tuple[str, int, int, int], TrainingTree]] = []
    for place, path in enumerate(paths):
        manifest = read_manifest(path)
        log = read_log(path)
        problems = _problems(path, manifest, data_dir)
        searches = log.searches.values()
        stored = list(_stored(path, manifest, problems, round))
        if not stored and any(record.trajectories for record in searches):
            if manifest["config"].get("strategy") in ("mcts", "beam", "dvts"):
                raise UserError(f"run {str(path)!r} holds no trees", "run it again with --keep-trees")
            stored = list(_sampled(path, manifest, log, problems, round))
        for tree in stored:
            index = problems[tree.source.task, tree.source.problem].index
            found.append(((tree.source.task, index, place, tree.source.tree), tree))
    if not found:
        raise UserError(f"{', '.join(map(str, paths)) or 'no run'}: no finished searches", "give runs that have ended")
    return [tree for _, tree in sorted(found, key=lambda one: one[0])]


def _problems(path: Path, manifest: dict[str, Any], data_dir: Path | None) -> dict[tuple[str, str], Problem]:
    from rstar_eval.tasks import load_task

    found = {}
    for name, entry in manifest["data"].items():
        if entry["source"].get("kind") == "evolve":
            raise UserError(
                f"run {str(path)!r} is a stage of a self-evolution", "its data sets lie beside it, in the round's data/"
            )
        task = load_task(entry.get("task_file", name), data_dir=data_dir)
        found.update({(task.spec.name, problem.id): problem for problem in task.problems})
    return found


def _stored(
    path: Path, manifest: dict[str, Any], problems: dict[tuple[str, str], Problem], round: int
) -> Iterator[TrainingTree]:
    from rstar_eval.trees import read_trees

    for one in read_trees(path):
        problem = _find(path, problems, one.task, one.problem)
        source = _source(path, round, problem, one.tree)
        tree = training_tree(problem.text, one.data, _right(problem, manifest), source)
        yield annotated(tree) if manifest["config"].get("semantics") != "reference" else tree


def _sampled(
    path: Path, manifest: dict[str, Any], log: Log, problems: dict[tuple[str, str], Problem], round: int
) -> Iterator[TrainingTree]:
    for record in log.searches.values():
        problem = _find(path, problems, record.task, record.problem)
        right = _right(problem, manifest)
        root = tree_of(record.trajectories, right)
        yield TrainingTree(problem.text, root, right, _source(path, round, problem, record.tree))


def _find(path: Path, problems: dict[tuple[str, str], Problem], task: str, problem: str) -> Problem:
    if (task, problem) not in problems:
        raise UserError(f"run {str(path)!r}: task {task} has no problem {problem}", "give the data that the run used")
    return problems[task, problem]


def _source(path: Path, round: int, problem: Problem, tree: int) -> Provenance:
    return Provenance(path.resolve().name, round, problem.task, problem.id, tree, "", problem.level or "")


def _right(problem: Problem, manifest: dict[str, Any]) -> Right:
    from functools import cache

    return cache(partial(is_right, problem, manifest["grader"]["name"]))


def is_right(problem: Problem, grader: str, answer: str) -> bool:
    """Return whether `answer` is right by the grader's verdict (any of the problem's accepted answers)."""
    from rstar_eval.runner import grade_answers

    return grade_answers(problem, [answer], grader)[0].outcome == "correct"
