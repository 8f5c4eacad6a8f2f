"""The main job: problems in, searches, grades, a stored run out. Killed at any moment, it continues where it stopped.

A unit of work is one search (one tree of one problem). Workers take units in order; each finished search is on disk
before the next one starts. When all trees of a problem are there, its answer is chosen and graded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rstar_eval.config import RunConfig
from rstar_eval.grading import GRADERS, Grade, grade_many, group_answers
from rstar_eval.problem import Problem
from rstar_eval.progress import Progress
from rstar_eval.records import Graded, GradeRecord, Log, SearchRecord, Timing, read_log, search_line
from rstar_eval.serial import to_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import Outcome, Tools, choose_answer, decided, search
from rstar_eval.solver.types import Budget, Trajectory
from rstar_eval.store import RunStore


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of a run: its name, the problems selected, and the grader for them."""

    name: str
    problems: tuple[Problem, ...]


class Stopped(Exception):
    """The user asked the run to stop (Ctrl-C, SIGTERM); everything finished is stored."""


class Runner:
    """Runs the searches that a store lacks and grades what is complete.

    `cut_off` counts searches that began and were not stored, `wasted` is what they spent.
    """

    def __init__(
        self,
        config: RunConfig,
        store: RunStore,
        tools: Tools,
        progress: Progress,
        *,
        session: int,
        concurrency: int,
        clock: Callable[[], float] = time.monotonic,
        outcomes: Callable[[Problem], Outcome] | None = None,
    ) -> None:
        """`session` is the number of this session in the manifest; `clock` is read for the records' timing only.
        `outcomes` is given in training alone: it tells a problem's search whether an answer is right."""
        self.config, self.store, self.tools, self.progress = config, store, tools, progress
        self.session, self.concurrency, self.clock = session, concurrency, clock
        self.outcomes = outcomes
        self.grader, self.version = config.grader, GRADERS[config.grader].version
        self.scored = tools.reward is not None
        self.began = clock()
        self.cut_off, self.wasted = 0, Budget()
        self.log: Log = read_log(store.path)

    async def run(self, tasks: Sequence[TaskRun], stop: asyncio.Event) -> None:
        """Finish all problems of `tasks`.

        Stopped when `stop` is set; UserError and BackendError as they come. In every case what was finished is stored
        and running searches are cancelled first.
        """
        for task in tasks:
            await self._run_task(task, stop)

    async def _run_task(self, task: TaskRun, stop: asyncio.Event) -> None:
        trees = self.config.search.trees
        graded = [self._grade_of(problem) for problem in task.problems]
        done = [one for one in graded if one is not None]
        self.progress.task_started(
            task.name, len(task.problems), len(done), sum(one.outcome == "correct" for one in done)
        )
        todo = [problem for problem, one in zip(task.problems, graded, strict=True) if one is None]
        # With early stop whether a tree is grown depends on the ones before it, so that a unit is a whole problem.
        chains = [tuple(range(trees))] if self.config.search.early_stop else [(tree,) for tree in range(trees)]
        units = iter([(problem, chain) for problem in todo for chain in chains])
        width = max(1, min(self.concurrency, len(todo) * len(chains)))
        workers = [asyncio.create_task(self._work(units)) for _ in range(width)]
        watcher = asyncio.create_task(stop.wait())
        try:
            pending: set[asyncio.Task[None]] = set(workers)
            while pending:
                finished, _ = await asyncio.wait([*pending, watcher], return_when=asyncio.FIRST_COMPLETED)
                if watcher in finished:
                    raise Stopped
                for worker in finished & pending:
                    worker.result()
                pending -= finished
        finally:
            for one in [*workers, watcher]:
                one.cancel()
            await asyncio.gather(*workers, watcher, return_exceptions=True)
            self.progress.task_ended()

    async def _work(self, units: Iterator[tuple[Problem, tuple[int, ...]]]) -> None:
        for problem, chain in units:
            for tree in chain:
                if await self._complete(problem) is not None:
                    break
                if (problem.task, problem.id, tree) not in self.log.searches:
                    await self._search(problem, tree)
            trajectories = await self._complete(problem)
            if trajectories is not None and self._grade_of(problem) is None:
                await self._grade(problem, trajectories)

    async def _complete(self, problem: Problem) -> tuple[Trajectory, ...] | None:
        """`complete`; where that compares answers, in a thread, so that no comparison holds up the other searches."""
        search = self.config.search
        if search.early_stop and search.trees > 1:
            return await asyncio.to_thread(complete, self.log, problem, search, scored=self.scored)
        return complete(self.log, problem, search, scored=self.scored)

    async def _search(self, problem: Problem, tree: int) -> None:
        started = self.clock() - self.began
        keep = self.config.keep_trees
        tools = self.tools if self.outcomes is None else replace(self.tools, outcome=self.outcomes(problem))
        spent = Budget()
        try:
            result = await search(problem.question, tools, self.config.search, tree, keep_tree=keep, budget=spent)
        except BaseException:  # cancelled, or the backend is gone: it is done again, and this was spent in vain
            self.cut_off += 1
            self.wasted.add(spent)
            raise
        timing = Timing(self.session, round(started, 3), round(self.clock() - self.began, 3))
        if keep and result.tree is not None:
            self.store.write_tree(problem.id, tree, dict(result.tree))
        self.store.append_search(search_line(problem.task, problem.index, result, timing))
        self.log.searches[(problem.task, problem.id, tree)] = SearchRecord(
            problem.task, problem.id, problem.index, tree, result.trajectories, result.budget, result.end, timing
        )
        self.progress.search_done(result.budget.completion_tokens)

    async def _grade(self, problem: Problem, trajectories: tuple[Trajectory, ...]) -> None:
        key = (problem.task, problem.id, self.grader, self.version)
        record = await asyncio.to_thread(grade_problem, problem, trajectories, self.config, self.version)
        if key in self.log.grades:  # two workers may finish a problem's last two trees at once
            return
        self.log.grades[key] = record
        self.store.append_grade(to_data(record))
        self.progress.problem_done(record.outcome)

    def _grade_of(self, problem: Problem) -> GradeRecord | None:
        return self.log.grades.get((problem.task, problem.id, self.grader, self.version))


def complete(log: Log, problem: Problem, config: SearchConfig, *, scored: bool) -> tuple[Trajectory, ...] | None:
    """Return a problem's trajectories if no further tree is needed, else None.

    That is when all its trees are there or, with early stop, the first of them that decide the answer (tree by tree in
    their order, so that a resumed run decides alike). `scored` says whether a reward model scored them.
    """
    if not config.early_stop or config.trees == 1:
        return log.trajectories(problem.task, problem.id, config.trees)
    for grown in range(1, config.trees + 1):
        found = log.trajectories(problem.task, problem.id, grown)
        remaining = (config.trees - grown) * config.tree_share
        if found is None or decided(found, remaining, config, group_answers, scored=scored):
            return found
    raise AssertionError("without remaining trajectories the answer is decided")


def grade_problem(
    problem: Problem, trajectories: tuple[Trajectory, ...], config: RunConfig, version: str
) -> GradeRecord:
    """Choose the answer of a problem and grade it and every trajectory's answer.

    Equivalent answers form a class; each distinct answer text is graded once. Without any answer the outcome is
    "no_answer".
    """
    choice = choose_answer(trajectories, config.search, group_answers)
    given = [one.answer for one in trajectories if one.answer is not None]
    answers = list(dict.fromkeys(given))
    grades = dict(zip(answers, grade_answers(problem, answers, config.grader), strict=True))
    groups = iter(group_answers(given))
    verdicts = tuple(
        Graded(None, "no_answer", "none")
        if one.answer is None
        else Graded(next(groups), grades[one.answer].outcome, grades[one.answer].rule)
        for one in trajectories
    )
    final = grades[choice.answer] if choice.answer is not None else None
    return GradeRecord(
        task=problem.task,
        problem=problem.id,
        index=problem.index,
        grader=config.grader,
        version=version,
        answer=choice.answer,
        outcome=final.outcome if final else "no_answer",
        rule=final.rule if final else "none",
        choice={key: value for key, value in to_data(choice).items() if key != "answer"},
        trajectories=verdicts,
        level=problem.level,
        subject=problem.subject,
    )


def grade_answers(problem: Problem, answers: Sequence[str], grader: str) -> list[Grade]:
    """Return a grade for each answer: against the gold answer, or the best one where several golds are right."""
    golds = (problem.answer, *problem.alternatives)
    pairs = [(gold, answer) for answer in answers for gold in golds]
    grades = grade_many(pairs, task=problem.task, grader=grader)
    best = ("correct", "grader_error", "wrong", "no_answer")
    each = [grades[i : i + len(golds)] for i in range(0, len(grades), len(golds))]
    return [min(found, key=lambda one: best.index(one.outcome)) for found in each]


def run_folder_name(config: RunConfig, digest: str) -> str:
    """Return the default folder name of a run: the same command gives the same folder, another config another one."""
    tasks = "+".join(Path(name).stem for name in config.tasks)[:60]
    model = "".join(c if c.isalnum() or c in "-." else "-" for c in Path(config.policy.split("?")[0]).name)[:40]
    return f"{tasks}_{config.search.strategy}-{config.search.rollouts}_{model.strip('-')}_{digest}"
