"""Units of work: every tree once, problems graded when complete, and a clean end whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.config import RunConfig, build_config
from rstar_eval.engine import local
from rstar_eval.engine.base import Searched, SetAside
from rstar_eval.engine.local import LocalEngine
from rstar_eval.errors import BackendError
from rstar_eval.grading import group_answers
from rstar_eval.problem import Problem, problem_id
from rstar_eval.records import read_log
from rstar_eval.runner import Runner, Stopped, TaskRun, grade_problem
from rstar_eval.solver.search import Tools
from rstar_eval.solver.types import Budget, Question, SearchResult, Trajectory
from rstar_eval.store import GRADES, TRAJECTORIES, RunStore, folders, read_lines

PROBLEMS = tuple(Problem(problem_id("t", i, f"{i}+1?"), "t", i, f"{i}+1?", str(i + 1)) for i in range(6))
Fake = Callable[[Question, int], Sequence[str | None]]


class Quiet:
    """A progress that only counts."""

    def __init__(self) -> None:
        self.graded: list[str] = []

    def task_started(self, task: str, total: int, done: int, correct: int) -> None: ...

    def search_done(self, tokens: int) -> None: ...

    def problem_done(self, outcome: str) -> None:
        self.graded.append(outcome)

    def note(self, text: str) -> None: ...

    def task_ended(self) -> None: ...


class Searches:
    """Stands in for the solver: answers by question and tree; remembers what was asked."""

    def __init__(self, answers: Fake, fail_after: int | None = None) -> None:
        self.answers, self.fail_after = answers, fail_after
        self.asked: list[tuple[str, int]] = []
        self.cancelled = 0

    async def __call__(
        self, question: Question, tools: Tools, config: Any, tree: int = 0, *, keep_tree: bool, budget: Budget
    ) -> SearchResult:
        self.asked.append((question.id, tree))
        try:
            await asyncio.sleep(0.001 * (len(self.asked) % 3))
            if self.fail_after is not None and len(self.asked) > self.fail_after:
                raise BackendError("the server is gone", "start it again")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        found = tuple(
            Trajectory((), "answer" if one is not None else "depth", one, None, tree, i)
            for i, one in enumerate(self.answers(question, tree))
        )
        return SearchResult(question.id, tree, found, Budget(completion_tokens=7))


def _run(
    path: Path, monkeypatch: pytest.MonkeyPatch, searches: Searches, *, stop_after: float | None = None, **settings: Any
) -> tuple[RunConfig, Quiet]:
    config = build_config({"tasks": "t", "strategy": "majority", "rollouts": 4, "trees": 2, **settings})
    monkeypatch.setattr(local, "search", searches)
    quiet = Quiet()
    tools = Tools(None, None, None, group_answers)  # type: ignore[arg-type]

    async def session(store: RunStore) -> None:
        stop = asyncio.Event()
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, stop.set)
        engine = LocalEngine(config, tools, 3)
        await Runner(config, store, engine, quiet, session=0).run([TaskRun("t", PROBLEMS)], stop)

    with RunStore(path) as store:
        asyncio.run(session(store))
    return config, quiet


def _right(question: Question, tree: int) -> list[str | None]:
    return [str(int(question.text.split("+")[0]) + 1), None]


def test_every_tree_is_searched_once_and_every_problem_graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches(_right)
    _, quiet = _run(tmp_path, monkeypatch, searches)
    assert sorted(searches.asked) == sorted((one.id, tree) for one in PROBLEMS for tree in (0, 1))
    assert quiet.graded == ["correct"] * 6
    again = Searches(_right)
    _run(tmp_path, monkeypatch, again)
    assert again.asked == []


def test_the_solver_gets_the_question_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def answers(question: Question, tree: int) -> list[str | None]:
        seen.append(question)
        return [None, None]

    _, quiet = _run(tmp_path, monkeypatch, Searches(answers))
    assert all(type(one) is Question for one in seen)
    assert quiet.graded == ["no_answer"] * 6


def test_a_backend_that_dies_leaves_finished_work_and_the_next_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = Searches(_right, fail_after=5)
    with pytest.raises(BackendError, match="server is gone"):
        _run(tmp_path, monkeypatch, searches)
    kept = len(list(read_lines(tmp_path, TRAJECTORIES)))
    assert 0 < kept <= 5
    again = Searches(_right)
    _run(tmp_path, monkeypatch, again)
    assert len(again.asked) == 12 - kept
    assert len(list(read_lines(tmp_path, GRADES))) == 6


def test_a_stop_cancels_running_searches_and_keeps_the_log_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*arguments: Any, **more: Any) -> SearchResult:
        await asyncio.sleep(60)
        raise AssertionError("never ends")

    with pytest.raises(Stopped):
        _run(tmp_path, monkeypatch, slow, stop_after=0.05)  # type: ignore[arg-type]
    assert list(read_lines(tmp_path, TRAJECTORIES)) == []


def test_early_stop_skips_the_trees_that_can_change_nothing_and_resumes_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreeing(question: Question, tree: int) -> list[str | None]:
        return _right(question, tree)[:1]

    settings = {"rollouts": 5, "trees": 5, "early_stop": True}
    searches = Searches(agreeing)
    _, quiet = _run(tmp_path / "a", monkeypatch, searches, **settings)
    assert len(searches.asked) == 6 * 3  # three equal votes of five are decided
    assert quiet.graded == ["correct"] * 6
    full = Searches(agreeing)
    _run(tmp_path / "b", monkeypatch, full, rollouts=5, trees=5)
    verdicts = [
        {(one.problem, one.answer, one.outcome) for one in read_log(tmp_path / name).grades.values()} for name in "ab"
    ]
    assert verdicts[0] == verdicts[1]
    again = Searches(agreeing)
    _run(tmp_path / "a", monkeypatch, again, **settings)
    assert again.asked == []


@pytest.mark.parametrize(
    ("gold", "others", "answers", "outcome"),
    [
        ("2", (), ["2", "2", "3"], "correct"),
        ("2", (), ["3", "3", "2"], "wrong"),
        ("2", (), [None, None, None], "no_answer"),
        ("1/2", (), ["0.5", "\\frac{1}{2}", "2"], "correct"),
        ("3", ("5",), ["5", "5", "3"], "correct"),
        ("3", ("5",), ["4", "4", "3"], "wrong"),
    ],
)
def test_the_chosen_answer_is_graded_against_every_right_gold(
    gold: str, others: tuple[str, ...], answers: list[str | None], outcome: str
) -> None:
    problem = Problem("ab" * 8, "t", 0, "?", gold, alternatives=others)
    found = tuple(Trajectory((), "answer" if one else "depth", one, None, 0, i) for i, one in enumerate(answers))
    config = build_config({"tasks": "t", "strategy": "majority", "rollouts": 3})
    record = grade_problem(problem, found, config, "1")
    assert record.outcome == outcome
    assert [one.group is None for one in record.trajectories] == [one is None for one in answers]


class Elastic:
    """An engine whose width changes; remembers how many searches were open at most at each width."""

    def __init__(self) -> None:
        self.grown = asyncio.Event()
        self.width, self.open, self.begun = 2, 0, 0
        self.most: dict[int, int] = {}

    async def search(self, problem: Problem, tree: int, spent: Budget) -> Searched:
        if problem.index == 3:
            raise SetAside(3, "its worker died each time")
        self.open += 1
        self.begun += 1
        place = f"w{self.begun % 2:03}"  # before the wait: others begin meanwhile
        self.most[self.width] = max(self.most.get(self.width, 0), self.open)
        if self.begun == 4:  # a machine joins
            self.width = 4
            self.grown.set()
        await asyncio.sleep(0.002)
        self.open -= 1
        found = (Trajectory((), "answer", str(problem.index + 1), None, tree, 0),)
        return Searched(SearchResult(problem.id, tree, found, Budget()), 0.5, None, place)

    def describe(self) -> dict[str, Any]:
        return {}

    session = describe

    async def close(self) -> None: ...


def test_as_many_searches_are_open_as_the_engine_wants_and_what_it_sets_aside_is_told(tmp_path: Path) -> None:
    problems = tuple(Problem(problem_id("t", i, f"{i}"), "t", i, f"{i}", str(i + 1)) for i in range(30))
    config = build_config({"tasks": "t", "strategy": "majority", "rollouts": 2, "trees": 2})
    engine, quiet = Elastic(), Quiet()

    async def session(store: RunStore) -> Runner:
        runner = Runner(config, store, engine, quiet, session=0)
        await asyncio.wait_for(runner.run([TaskRun("t", problems)], asyncio.Event()), 20)
        runner.close()
        return runner

    with RunStore(tmp_path) as store:
        runner = asyncio.run(session(store))
    assert engine.most == {2: 2, 4: 4}
    assert quiet.graded == ["correct"] * 29
    assert [(one.index, one.tree, one.tries) for one in runner.set_aside] == [(3, 0, 3), (3, 1, 3)]
    searches = list(read_lines(tmp_path, TRAJECTORIES))
    assert len({(one["problem"], one["tree"]) for one in searches}) == len(searches) == 58
    assert all(one["timing"]["ended"] - one["timing"]["started"] <= 0.501 for one in searches)
    assert [one.name for one in folders(tmp_path)[1:]] == ["w000", "w001"]
