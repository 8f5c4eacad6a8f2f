"""`rstar-eval show RUN --outcome wrong --level 5`: the problems that fit, one line each, without loading the run."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rstar_eval.errors import UserError, nearest
from rstar_eval.records import OUTCOMES
from rstar_eval.store import read_manifest
from rstar_eval.store_index import GradeRow, Index
from rstar_eval.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


def find_problems(
    run: Path, *, outcome: str | None = None, level: str | None = None, task: str | None = None
) -> Iterator[tuple[str, GradeRow]]:
    """Yield the task and the grade of each problem of a run with this outcome, of this level and task (None: any), by
    the run's own grader, in no particular order. Made through the run's index (store_index.py).

    UserError if it is no run, or an outcome or task that there is not.
    """
    manifest = read_manifest(run)
    if outcome is not None and outcome not in OUTCOMES:
        raise UserError(f"there is no outcome {outcome!r}", nearest(outcome, OUTCOMES))
    if task is not None and task not in manifest["data"]:
        raise UserError(f"the run has no task {task!r}", nearest(task, manifest["data"]))
    grader = (manifest["grader"]["name"], manifest["grader"]["version"])
    with Index(run) as index:
        for name in manifest["data"] if task is None else (task,):
            for grade in index.grades(name, grader, outcome=outcome, level=level):
                yield name, grade


def list_problems(run: Path, console: Console, *, outcome: str | None, level: str | None, limit: int) -> None:
    """Print the first `limit` problems that fit, in the order of their tasks' files, and how many fit."""
    count, first = 0, []
    for task, grade in find_problems(run, outcome=outcome, level=level):
        count += 1
        line = f"{task}/{grade.index} ({grade.problem}) level {grade.level or '-'}: {grade.answer} -> {grade.outcome}"
        first.append((task, grade.index, grade.problem, f"{line} ({grade.rule})"))
        if len(first) > 2 * limit:
            first = heapq.nsmallest(limit, first)
    for *_, line in heapq.nsmallest(limit, first):
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)
    more = f"; {count - limit} more (--limit)" if count > limit else ""
    console.print(f"{count} problems{more}", markup=False, highlight=False)
