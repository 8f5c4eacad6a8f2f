"""What a session must know of the work that a run's folder holds: which problems are graded, and the searches of those
that are not. Of a problem that is done only its key and outcome are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_eval.problem import Problem
from rstar_eval.records import GradeRecord, Log, SearchRecord
from rstar_eval.serial import from_data
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines

Key = tuple[str, str]
"""A task's name and a problem's id."""


@dataclass(slots=True)
class Ledger:
    """The state of a run for one grader. outcomes: of the graded problems. log: the searches of the others."""

    outcomes: dict[Key, str] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    def outcome(self, problem: Problem) -> str | None:
        """Return the outcome of a problem, None while it is not graded."""
        return self.outcomes.get((problem.task, problem.id))

    def searched(self, problem: Problem, tree: int) -> bool:
        """Return whether a tree of a problem that is not graded has been searched."""
        return (problem.task, problem.id, tree) in self.log.searches

    def add_search(self, record: SearchRecord) -> None:
        """Note a search that has been stored."""
        self.log.searches[record.key] = record

    def add_grade(self, record: GradeRecord, trees: int) -> None:
        """Note a grade that has been stored, and forget the problem's searches."""
        self.outcomes[(record.task, record.problem)] = record.outcome
        for tree in range(trees):
            self.log.searches.pop((record.task, record.problem, tree), None)


def read_ledger(path: Path, grader: str, version: str, trees: int = 1) -> Ledger:
    """Read the state of the run in folder `path` for a grader. UserError if a log is damaged.

    A grade counts when the searches that it was made of are there: at least `trees` of them (1 with early stop), with
    as many trajectories as it has verdicts. Else (a damaged search was taken out of the log) the problem is done again.
    """
    ledger, missing = Ledger(), dict[Key, int]()
    for number, data in enumerate(read_lines(path, GRADES), start=1):
        if (data.get("grader"), data.get("version")) == (grader, version):
            grade = from_data(GradeRecord, data, f"{path / GRADES} record {number}")
            key = (grade.task, grade.problem)
            ledger.outcomes[key], missing[key] = grade.outcome, len(grade.trajectories)
    grown = dict.fromkeys(missing, 0)
    for number, data in enumerate(read_lines(path, TRAJECTORIES), start=1):
        key = (data["task"], data["problem"])
        if key in grown:
            tree = 1 << int(data["tree"])
            if not grown[key] & tree:  # a search that is there twice counts once
                grown[key] |= tree
                missing[key] -= len(data["trajectories"])
        else:
            _add_search(ledger, path, number, data)
    lost = {key for key, left in missing.items() if left or grown[key].bit_count() < trees}
    if lost:
        for key in lost:
            del ledger.outcomes[key]
        for number, data in enumerate(read_lines(path, TRAJECTORIES), start=1):
            if (data["task"], data["problem"]) in lost:
                _add_search(ledger, path, number, data)
    return ledger


def _add_search(ledger: Ledger, path: Path, number: int, data: Mapping[str, Any]) -> None:
    search = from_data(SearchRecord, data, f"{path / TRAJECTORIES} record {number}")
    ledger.log.searches.setdefault(search.key, search)
