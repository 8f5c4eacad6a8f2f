"""The records of a run's log: what one finished search and one graded problem look like on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_eval.serial import from_data, to_data
from rstar_eval.solver.types import Budget, SearchEnd, SearchResult, Trajectory
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines

OUTCOMES = ("correct", "wrong", "no_answer", "grader_error")


@dataclass(frozen=True, slots=True)
class Timing:
    """When a search ran: the number of the run's session, and seconds from that session's start to the search's own
    start and end.

    Kept apart from the rest of a record: two runs with the same seed agree in everything but this.
    """

    session: int
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One line of trajectories.jsonl, keyed by (task, problem, tree)."""

    task: str
    problem: str
    index: int
    tree: int
    trajectories: tuple[Trajectory, ...]
    budget: Budget
    end: SearchEnd
    timing: Timing
    schema: int = 1

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes a search unique in a run."""
        return (self.task, self.problem, self.tree)


@dataclass(frozen=True, slots=True)
class Graded:
    """The verdict on one trajectory: its answer class (None: no answer), outcome and deciding rule."""

    group: int | None
    outcome: str
    rule: str


@dataclass(frozen=True, slots=True)
class GradeRecord:
    """One line of grades.jsonl: the chosen answer's verdict and every trajectory's, by one grader.

    `choice` says how the answer was chosen (rule, K, votes, trajectory). Trajectories are in the order of their trees.
    """

    task: str
    problem: str
    index: int
    grader: str
    version: str
    answer: str | None
    outcome: str
    rule: str
    choice: dict[str, Any]
    trajectories: tuple[Graded, ...]
    level: str | None = None
    subject: str | None = None
    schema: int = 1


@dataclass(slots=True)
class Log:
    """What a run's folder holds: searches by key, and per problem the last grade of each (grader, version). Of a large
    run these are mappings whose records stay on disk (store_log.Stored)."""

    searches: MutableMapping[tuple[str, str, int], SearchRecord] = field(default_factory=dict)
    grades: MutableMapping[tuple[str, str, str, str], GradeRecord] = field(default_factory=dict)

    def trajectories(self, task: str, problem: str, trees: int) -> tuple[Trajectory, ...] | None:
        """Return a problem's trajectories of all its trees in order, or None while a tree is missing."""
        found = [self.searches.get((task, problem, tree)) for tree in range(trees)]
        if any(record is None for record in found):
            return None
        return tuple(one for record in found if record is not None for one in record.trajectories)


def in_order(log: Log) -> Iterator[SearchRecord]:
    """Yield the searches of a log by task, the problems' places in it, and tree; of a large run one at a time."""
    from rstar_eval.store_log import Stored

    if isinstance(log.searches, Stored):
        return log.searches.in_order()
    return iter(sorted(log.searches.values(), key=lambda one: (one.task, one.index, one.problem, one.tree)))


def search_line(task: str, index: int, result: SearchResult, timing: Timing) -> dict[str, Any]:
    """Return the log line of a finished search."""
    return {
        "task": task,
        "problem": result.question_id,
        "index": index,
        "tree": result.tree_index,
        "trajectories": [to_data(one) for one in result.trajectories],
        "budget": to_data(result.budget),
        "end": result.end,
        "timing": to_data(timing),
    }


def read_log(path: Path, *, large: int | None = None) -> Log:
    """Read a run's folder. A key that occurs twice counts once: the first search, the last grade.

    Of a run with more than `large` bytes of logs (store_index.LARGE) records are read as they are asked for.
    """
    from rstar_eval.store_index import LARGE, Index, is_large

    if is_large(path, LARGE if large is None else large):
        from rstar_eval.store_log import Stored

        index = Index(path)
        return Log(Stored(index, TRAJECTORIES, SearchRecord), Stored(index, GRADES, GradeRecord))
    log = Log()
    for number, data in enumerate(read_lines(path, TRAJECTORIES), start=1):
        search = from_data(SearchRecord, data, f"{path / TRAJECTORIES} line {number}")
        log.searches.setdefault(search.key, search)
    for grade in read_grades(path):
        log.grades[(grade.task, grade.problem, grade.grader, grade.version)] = grade
    return log


def read_grades(path: Path) -> Iterable[GradeRecord]:
    """Yield the grade records of a run, oldest first."""
    for number, data in enumerate(read_lines(path, GRADES), start=1):
        yield from_data(GradeRecord, data, f"{path / GRADES} line {number}")


def comparable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a log line without what differs between two runs of the same seed: wall-clock times and CPU seconds."""
    kept = {key: value for key, value in data.items() if key != "timing"}
    if "budget" in kept:
        kept["budget"] = {key: value for key, value in kept["budget"].items() if key != "cpu_seconds"}
    return kept
