"""Records survive the way to disk and back, and figures come from the log alone."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.records import Graded, GradeRecord, SearchRecord, Timing, comparable, read_log, search_line
from rstar_eval.report import details
from rstar_eval.serial import from_data, line, to_data
from rstar_eval.solver.types import Budget, SearchResult, Step, Trajectory
from rstar_eval.store import RunStore
from rstar_eval.summary import summarise

steps = st.builds(
    Step,
    text=st.text(),
    kind=st.sampled_from(["code", "final_code", "answer", "malformed"]),
    code=st.text(),
    output=st.text(),
    status=st.sampled_from([None, "ok", "error", "timeout", "killed", "violation"]),
    error=st.text(),
    tokens=st.integers(0, 999),
    value=st.none() | st.floats(-1, 1),
)
trajectories = st.builds(
    Trajectory,
    steps=st.lists(steps, max_size=4).map(tuple),
    end=st.sampled_from(["answer", "depth", "errors", "length", "malformed", "no_candidates", "budget"]),
    answer=st.none() | st.text(),
    score=st.none() | st.floats(-1, 1),
    tree=st.integers(0, 3),
    rollout=st.integers(0, 9),
)


@settings(deadline=None)
@given(st.lists(trajectories, max_size=4))
def test_a_search_comes_back_from_its_line_as_it_was(found: list[Trajectory]) -> None:
    result = SearchResult("ab" * 8, 1, tuple(found), Budget(policy_calls=3, cpu_seconds=0.25))
    text = line({"schema": 1, **search_line("gsm8k", 7, result, Timing(0, 1.0, 2.5))})
    back = from_data(SearchRecord, json.loads(text), "test")
    assert back.trajectories == result.trajectories
    assert back.budget == result.budget
    assert back.key == ("gsm8k", "ab" * 8, 1)


def test_comparable_drops_times_only() -> None:
    result = SearchResult("p", 0, (), Budget(code_runs=2, cpu_seconds=0.1))
    slow = SearchResult("p", 0, (), Budget(code_runs=2, cpu_seconds=0.9))
    lines = [search_line("t", 0, one, Timing(0, 0, end)) for one, end in ((result, 1.0), (slow, 9.0))]
    assert comparable(lines[0]) == comparable(lines[1])
    other = SearchResult("p", 0, (), Budget(code_runs=3))
    assert comparable(search_line("t", 0, other, Timing(0, 0, 1))) != comparable(lines[0])


def _search(
    problem: str, tree: int, answers: list[str | None], tokens: int, session: int, at: float
) -> dict[str, object]:
    found = tuple(Trajectory((), "answer" if one else "depth", one, None, tree, i) for i, one in enumerate(answers))
    budget = Budget(completion_tokens=tokens, code_runs=4, code_ok=3)
    return search_line("t", int(problem, 16), SearchResult(problem, tree, found, budget), Timing(session, at, at + 2))


def _grade(problem: str, outcome: str, groups: list[int | None], right: list[bool]) -> dict[str, object]:
    verdicts = tuple(
        Graded(g, "no_answer" if g is None else "correct" if ok else "wrong", "r")
        for g, ok in zip(groups, right, strict=True)
    )
    return to_data(
        GradeRecord("t", problem, 0, "default", "1", "x", outcome, "r", {}, verdicts, level=str(int(problem, 16) % 2))
    )  # type: ignore[no-any-return]


def test_figures_are_computed_from_the_log(tmp_path: Path) -> None:
    manifest = {
        "schema": 1,
        "config": {},
        "data": {"t": {}},
        "grader": {"name": "default", "version": "1"},
        "sessions": [{}, {}],
    }
    with RunStore(tmp_path) as store:
        store.write_manifest(manifest)
        for problem, tree, session, at in [
            ("1", 0, 0, 0.0),
            ("1", 1, 0, 1.0),
            ("2", 0, 1, 5.0),
            ("2", 1, 1, 5.0),
            ("3", 0, 1, 9.0),
        ]:
            store.append_search(_search(problem, tree, ["a", None], 10, session, at))
        store.append_search(_search("1", 0, ["a", None], 999, 0, 0.0))  # a repeated key counts once
        store.append_grade(_grade("1", "wrong", [0, None, 0, None], [False, False, False, False]))
        store.append_grade(
            _grade("1", "correct", [0, None, 0, None], [True, False, True, False])
        )  # the last one counts
        store.append_grade(_grade("2", "grader_error", [0, None, 1, None], [False, False, True, False]))
    (one,) = summarise(tmp_path).tasks
    assert (one.n, one.correct, one.wrong, one.grader_error, one.no_answer) == (2, 1, 0, 1, 0)
    assert one.tokens == 40  # problem 3 is not graded yet
    assert one.seconds == 3.0 + 2.0  # session 0 from 0 to 3, session 1 from 5 to 7
    assert one.avg == 3 / 8
    assert one.steps_run == 16
    assert one.ends == {"answer": 4, "depth": 4}
    assert [(p.k, round(p.pass_at_k, 4)) for p in one.curve] == [
        (1, 0.375),
        (2, round((5 / 6 + 1 / 2) / 2, 4)),
        (4, 1.0),
    ]
    assert one.curve[-1].maj_at_k == (1.0 + 0.5) / 2
    assert [(level.label, level.n) for level in one.levels] == [("0", 1), ("1", 1)]
    (part,) = summarise(tmp_path, only={"2"}).tasks
    assert (part.n, part.accuracy) == (1, 0.0)
    assert read_log(tmp_path).trajectories("t", "3", 2) is None


def test_a_problem_with_few_trajectories_counts_in_every_point_of_the_curve(tmp_path: Path) -> None:
    manifest = {
        "schema": 1,
        "config": {},
        "data": {"t": {}},
        "grader": {"name": "default", "version": "1"},
        "sessions": [],
    }
    with RunStore(tmp_path) as store:
        store.write_manifest(manifest)
        store.append_grade(_grade("1", "correct", [0, 0, 0, 0], [True, True, True, True]))
        store.append_grade(_grade("2", "wrong", [0], [False]))
        store.append_grade(_grade("3", "no_answer", [], []))
    (one,) = summarise(tmp_path).tasks
    assert [(p.k, round(p.pass_at_k, 4), round(p.maj_at_k, 4)) for p in one.curve] == [
        (k, 0.3333, 0.3333) for k in (1, 2, 4)
    ]


def test_what_early_stop_spared_is_counted_and_reported(tmp_path: Path) -> None:
    """Four trajectories in two trees: one tree stopped after one of two, one problem did without its second tree."""
    config = {"rollouts": 4, "trees": 2, "early_stop": True}
    found = Trajectory((), "answer", "1")
    made = [("a", 0, 2, "rollouts"), ("a", 1, 1, "decided"), ("b", 0, 2, "rollouts")]
    graded = Graded(0, "correct", "text")
    with RunStore(tmp_path) as store:
        source = {"source": {"kind": "own", "sha256": "0"}, "problems": 2, "errata": 0}
        store.write_manifest(
            {"schema": 1, "config": config, "data": {"t": source}, "grader": {"name": "g", "version": "1"}}
        )
        for problem, tree, count, end in made:
            result = SearchResult(problem, tree, (found,) * count, Budget(completion_tokens=10 * count), None, end)  # type: ignore[arg-type]
            store.append_search(search_line("t", 0, result, Timing(0, 0.0, 1.0)))
        for problem, count in (("a", 3), ("b", 2)):
            record = GradeRecord("t", problem, 0, "g", "1", "1", "correct", "text", {}, (graded,) * count)
            store.append_grade(to_data(record))
    (summary,) = summarise(tmp_path).tasks
    assert (summary.spared, summary.trajectories, summary.tokens) == (3, 5, 50)
    assert "early stop: 3 of 8 trajectories not needed, about 30 tokens saved (at the mean of those made)" in details(
        summary
    )
