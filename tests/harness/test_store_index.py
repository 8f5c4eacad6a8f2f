"""The index of a large run says what the logs say, however they grew, and is made anew when it can't be trusted."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.records import Graded, GradeRecord, Timing, in_order, read_log, search_line
from rstar_eval.serial import to_data
from rstar_eval.solver.types import Budget, SearchResult, Step, Trajectory
from rstar_eval.stats import curve_points, maj_at_k
from rstar_eval.store import GRADES, TRAJECTORIES, RunStore, Segment, segment_path
from rstar_eval.store_index import INDEX, Index, is_large
from rstar_eval.summary import _canonical, summarise

MANIFEST = {
    "schema": 1,
    "config": {"early_stop": True, "rollouts": 6, "trees": 2},
    "data": {"t": {}, "u": {}},
    "grader": {"name": "default", "version": "1"},
    "sessions": [{}],
}


def search(rng: random.Random, task: str, number: int, tree: int, *, text: str = "x = 1") -> dict[str, Any]:
    found = tuple(
        Trajectory((Step(text, "code"),), rng.choice(["answer", "depth"]), rng.choice(["1", None]), None, tree, i)
        for i in range(rng.randint(0, 3))
    )
    budget = Budget(
        completion_tokens=rng.randint(1, 99), code_runs=3, code_ok=rng.randint(0, 3), cpu_seconds=rng.random()
    )
    result = SearchResult(f"{number:016x}", tree, found, budget, end=rng.choice(["rollouts", "decided"]))
    return search_line(task, number, result, Timing(rng.randint(0, 2), rng.random(), 5 + rng.random()))


def grade(rng: random.Random, task: str, number: int, *, version: str = "1") -> dict[str, Any]:
    outcome = rng.choice(["correct", "wrong", "no_answer", "grader_error"])
    each = tuple(
        Graded(rng.choice([0, 1, None]), rng.choice(["correct", "wrong"]), "r") for _ in range(rng.randint(0, 6))
    )
    record = GradeRecord(
        task, f"{number:016x}", number, "default", version, "\ud800 <b>", outcome, "r", {}, each, str(number % 3)
    )
    return to_data(record)  # type: ignore[no-any-return]


def fill(store: Segment, rng: random.Random, numbers: range) -> None:
    for number in numbers:
        for tree in range(rng.randint(1, 2)):
            store.append_search(search(rng, rng.choice("tu"), number, tree))
        if rng.random() < 0.8:
            store.append_grade(grade(rng, "t", number))
        if rng.random() < 0.3:
            store.append_grade(grade(rng, "t", number, version=rng.choice("12")))


@pytest.mark.parametrize("seed", range(2))
def test_figures_through_the_index_equal_those_of_the_log(tmp_path: Path, seed: int) -> None:
    """However a run grew: in several sessions, with segments, with keys that occur twice, here and there."""
    rng = random.Random(seed)
    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
    for _ in range(3):
        with RunStore(tmp_path) as store, Segment(segment_path(tmp_path, f"w{rng.randint(0, 3)}")) as worker:
            fill(store, rng, range(10))
            fill(worker, rng, range(5, 20))
        small, large = summarise(tmp_path), summarise(tmp_path, large=0)
        assert small.tasks[0].n > 5
        assert large.tasks == small.tasks
        only = {f"{number:016x}" for number in range(7)}
        assert summarise(tmp_path, only=only, large=0).tasks == summarise(tmp_path, only=only).tasks
    log, stored = read_log(tmp_path), read_log(tmp_path, large=0)
    assert list(stored.searches) == sorted(log.searches, key=list(stored.searches).index)
    assert dict(stored.searches) == dict(log.searches)
    assert dict(stored.grades) == dict(log.grades)
    assert list(in_order(stored)) == list(in_order(log))
    assert ("t", "no such problem", 0) not in stored.searches
    with pytest.raises(KeyError):
        stored.searches[("t", "no such problem", 0)]
    with pytest.raises(TypeError, match="fsck"):
        del stored.searches[next(iter(stored.searches))]
    with Index(tmp_path) as index:
        assert index.added == 0, "it was up to date"
        assert index.count(TRAJECTORIES) == len(log.searches)
        for key in log.searches:
            place = index.place(TRAJECTORIES, key)
            assert place is not None
            file, offset, length = place
            record = json.loads(file.read_bytes()[offset : offset + length])
            assert record["budget"] == to_data(log.searches[key].budget)


def test_only_what_was_added_is_read(tmp_path: Path) -> None:
    rng = random.Random(0)
    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
        fill(store, rng, range(10))
    with Index(tmp_path) as index:
        assert index.added > 10
    with RunStore(tmp_path) as store:
        store.append_search(search(rng, "t", 99, 0))
    with open(tmp_path / TRAJECTORIES, "ab") as log:
        log.write(b'{"torn')
    with Index(tmp_path) as index:
        assert index.added == 1


@pytest.mark.parametrize("change", ["shorter", "other", "no database", "older version"])
def test_an_index_that_does_not_fit_is_made_anew(tmp_path: Path, change: str) -> None:
    rng = random.Random(0)
    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
        fill(store, rng, range(10))
    Index(tmp_path).close()
    log = tmp_path / TRAJECTORIES
    lines = log.read_bytes().splitlines(keepends=True)
    if change == "shorter":
        log.write_bytes(b"".join(lines[:-3]))
    elif change == "other":
        log.write_bytes(b"".join(lines[:-1]) + lines[0] * 2)
    elif change == "no database":
        (tmp_path / INDEX).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    else:
        with sqlite3.connect(tmp_path / INDEX) as db:
            db.execute("PRAGMA user_version = 0")
        db.close()
    assert summarise(tmp_path, large=0).tasks == summarise(tmp_path).tasks


def test_a_run_that_can_only_be_read_is_indexed_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
        fill(store, random.Random(0), range(5))
    if os.geteuid() == 0:  # root may write anywhere: a folder in the way stands for a read-only one
        (tmp_path / INDEX).mkdir()
    else:
        tmp_path.chmod(0o500)
    try:
        assert summarise(tmp_path, large=0).tasks == summarise(tmp_path).tasks
    finally:
        tmp_path.chmod(0o700)


def test_an_index_that_is_up_to_date_is_only_read(tmp_path: Path) -> None:
    """It may lie in an archive, or another process may be writing it."""
    with RunStore(tmp_path) as store:
        fill(store, random.Random(0), range(5))
    Index(tmp_path).close()
    other = sqlite3.connect(tmp_path / INDEX, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Index(tmp_path) as index:
        assert index.added == 0
        assert index.count(TRAJECTORIES) >= 5
    other.close()


def test_an_index_that_is_broken_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar_eval.store_index._BLOCK", 3)
    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
        for number in range(11):
            store.append_search(search(random.Random(number), "t", number, 0))
    keep, blocks = Index._keep, [0]

    def dying(self: Index, *arguments: Any) -> None:
        if blocks[0] == 2:
            raise KeyboardInterrupt
        blocks[0] += 1
        keep(self, *arguments)

    monkeypatch.setattr(Index, "_keep", dying)
    with pytest.raises(KeyboardInterrupt):
        Index(tmp_path)
    monkeypatch.setattr(Index, "_keep", keep)
    with Index(tmp_path) as index:
        assert (index.added, index.count(TRAJECTORIES)) == (11 - 2 * 3, 11)


def test_a_damaged_line_is_named_and_filters_find(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        for number in range(6):
            store.append_grade(
                {**grade(random.Random(number), "t", number), "outcome": ["wrong", "correct"][number % 2]}
            )
    with Index(tmp_path) as index:
        found = list(index.grades("t", ("default", "1"), outcome="wrong", level="1"))
        assert [(one.index, one.answer) for one in found] == [(4, "? <b>")]
        assert dataclasses.asdict(found[0])["level"] == "1"
    (tmp_path / INDEX).unlink()
    assert not is_large(tmp_path)
    data = bytearray((tmp_path / GRADES).read_bytes())
    data[200] ^= 1
    (tmp_path / GRADES).write_bytes(data)
    with pytest.raises(UserError, match=r"line 1 is damaged: its checksum does not fit.*fsck"):
        Index(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(0, 3), st.booleans()), max_size=12))
def test_a_pattern_without_its_order_has_the_same_curve(found: list[tuple[int | None, bool]]) -> None:
    verdict: dict[int, bool] = {}
    groups = tuple(group for group, _ in found)
    rights = tuple(group is not None and verdict.setdefault(group, right) for group, right in found)
    canonical = _canonical(groups, rights)
    assert sum(canonical[1]) == sum(rights)
    ks = curve_points(len(groups))
    if ks:
        assert maj_at_k(*canonical, ks) == pytest.approx(maj_at_k(groups, rights, ks), abs=1e-12)
    mixed = (groups, tuple(not right for right in rights[:1]) + rights[1:])
    assert sum(_canonical(*mixed)[1]) == sum(mixed[1])


def test_problems_are_listed_by_outcome_and_level_in_their_order(tmp_path: Path) -> None:
    from rich.console import Console

    from rstar_eval.problem_list import find_problems, list_problems

    with RunStore(tmp_path) as store:
        store.write_manifest(MANIFEST)
        for number in range(40):
            outcome = ("wrong", "correct")[number % 2]
            store.append_grade({**grade(random.Random(number), "t", 39 - number), "outcome": outcome})
    console = Console(record=True, width=200)
    list_problems(tmp_path, console, outcome="correct", level="0", limit=2)
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["t/0", "t/6"]
    assert lines[2] == "7 problems; 5 more (--limit)"
    assert sum(1 for _ in find_problems(tmp_path, outcome="wrong")) == 20
    with pytest.raises(UserError, match="did you mean wrong"):
        list(find_problems(tmp_path, outcome="wrng"))
    with pytest.raises(UserError, match="no task 'x'"):
        list(find_problems(tmp_path, task="x"))
