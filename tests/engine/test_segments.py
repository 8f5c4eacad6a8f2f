"""What workers did lies in segments that the driver writes; what a session remembers of it is no more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar_eval.engine.segments import WorkerSegments
from rstar_eval.errors import UserError
from rstar_eval.ledger import read_ledger
from rstar_eval.problem import Problem
from rstar_eval.records import Graded, GradeRecord, SearchRecord, Timing, read_log, search_line
from rstar_eval.serial import to_data
from rstar_eval.solver.types import Budget, SearchResult, Trajectory
from rstar_eval.store import TRAJECTORIES, RunStore, Segment, read_lines, segment_path


def problem(index: int) -> Problem:
    return Problem(f"{index:016x}", "t", index, "?", "1")


def search(index: int, tree: int = 0) -> dict[str, object]:
    found = (Trajectory((), "answer", str(index)),)
    return search_line("t", index, SearchResult(problem(index).id, tree, found), Timing(0, 0.0, 1.0))


def grade(index: int, grader: str = "default", version: str = "1", outcome: str = "correct") -> GradeRecord:
    verdicts = (Graded(0, outcome, "string"),)
    return GradeRecord("t", problem(index).id, index, grader, version, "1", outcome, "string", {}, verdicts)


def test_a_run_is_read_the_same_wherever_its_searches_lie(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store.append_search(search(0))
        segments = WorkerSegments(tmp_path)
        segments.of("w000").append_search(search(1))
        segments.of("w001").append_search(search(2))
        segments.of("w000").append_search(search(3))
        segments.close()
        segments.close()
    assert [one["index"] for one in read_lines(tmp_path, TRAJECTORIES)] == [0, 1, 3, 2]
    assert {key[1] for key in read_log(tmp_path).searches} == {problem(i).id for i in range(4)}


def test_what_a_killed_session_left_half_written_is_mended_by_the_next_one(tmp_path: Path) -> None:
    segments = WorkerSegments(tmp_path)
    segments.of("w000").append_search(search(1))
    segments.close()
    log = segment_path(tmp_path, "w000") / TRAJECTORIES
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"task": "t", "prob')
    again = WorkerSegments(tmp_path)
    assert len(again.notes) == 1
    assert again.notes[0].startswith("segment w000: ")
    assert log.read_bytes() == whole
    again.close()


def test_a_segment_has_one_writer(tmp_path: Path) -> None:
    with Segment(segment_path(tmp_path, "w000")), pytest.raises(UserError, match="in use by another process"):
        WorkerSegments(tmp_path)


def test_of_a_graded_problem_only_the_outcome_is_remembered(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        for index in range(3):
            store.append_search(search(index))
        store.append_grade(to_data(grade(0)))
        store.append_grade(to_data(grade(1, grader="string")))  # another grader's: not graded for this one
        store.append_grade(to_data(grade(2, version="0")))  # an older version's
    ledger = read_ledger(tmp_path, "default", "1")
    assert ledger.outcome(problem(0)) == "correct"
    assert [ledger.outcome(problem(i)) for i in (1, 2)] == [None, None]
    assert [ledger.searched(problem(i), 0) for i in range(3)] == [False, True, True]
    ledger.add_search(SearchRecord("t", problem(5).id, 5, 0, (), Budget(), "rollouts", Timing(0, 0.0, 1.0)))
    assert ledger.searched(problem(5), 0)
    ledger.add_grade(grade(5, outcome="wrong"), trees=1)
    assert ledger.outcome(problem(5)) == "wrong"
    assert not ledger.searched(problem(5), 0)
