"""The main job: problems in, searches, grades, a stored run out. Killed at any moment, it continues where it stopped.

A unit of work is one search (one tree of one problem). Units begin in order, as many at once as the engine wants; each
finished search is on disk before the next one starts. When all trees of a problem are there, its answer is chosen and
graded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rstar_eval.config import RunConfig
from rstar_eval.engine.base import Engine, SetAside
from rstar_eval.engine.segments import WorkerSegments
from rstar_eval.grading import GRADERS, Grade, grade_many, group_answers
from rstar_eval.ledger import read_ledger
from rstar_eval.problem import Problem
from rstar_eval.progress import Progress
from rstar_eval.records import Graded, GradeRecord, Log, SearchRecord, Timing, search_line
from rstar_eval.serial import to_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import choose_answer, decided
from rstar_eval.solver.types import Budget, Trajectory
from rstar_eval.store import RunStore

Unit = tuple[Problem, tuple[int, ...]]
"""A problem and the trees of it that are searched one after the other."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of a run: its name, the problems selected, and the grader for them."""

    name: str
    problems: tuple[Problem, ...]


class Stopped(Exception):
    """The user asked the run to stop (Ctrl-C, SIGTERM); everything finished is stored."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A search that was set aside (engine.SetAside): of which task and problem (id, and index in the task), its tree,
    how often it was tried, and what happened the last time."""

    task: str
    problem: str
    index: int
    tree: int
    tries: int
    reason: str


class Runner:
    """Runs the searches that a store lacks and grades what is complete.

    `cut_off` counts searches that began and were not stored, `wasted` is what they spent. `set_aside` are the searches
    that could not be done; their problems have no grade, and another session tries them again.
    """

    def __init__(
        self,
        config: RunConfig,
        store: RunStore,
        engine: Engine,
        progress: Progress,
        *,
        session: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`session` is the number of this session in the manifest; `clock` is read for the records' timing only."""
        self.config, self.store, self.engine, self.progress = config, store, engine, progress
        self.session, self.clock = session, clock
        self.grader, self.version = config.grader, GRADERS[config.grader].version
        self.scored = config.reward is not None
        self.began = clock()
        self.cut_off, self.wasted = 0, Budget()
        self.set_aside: list[Unfinished] = []
        self.segments = WorkerSegments(store.path)
        for note in self.segments.notes:
            progress.note(note)
        needed = 1 if config.search.early_stop else config.search.trees
        self.ledger = read_ledger(store.path, self.grader, self.version, needed)

    def close(self) -> None:
        """Close the segments of workers. May be called twice."""
        self.segments.close()

    async def run(self, tasks: Sequence[TaskRun], stop: asyncio.Event) -> None:
        """Finish all problems of `tasks`.

        Stopped when `stop` is set; UserError and BackendError as they come. In every case what was finished is stored
        and running searches are cancelled first.
        """
        for task in tasks:
            await self._run_task(task, stop)

    async def _run_task(self, task: TaskRun, stop: asyncio.Event) -> None:
        trees = self.config.search.trees
        outcomes = [self.ledger.outcome(problem) for problem in task.problems]
        done = [one for one in outcomes if one is not None]
        self.progress.task_started(task.name, len(task.problems), len(done), done.count("correct"))
        todo = [problem for problem, one in zip(task.problems, outcomes, strict=True) if one is None]
        # With early stop whether a tree is grown depends on the ones before it, so that a unit is a whole problem.
        chains = [tuple(range(trees))] if self.config.search.early_stop else [(tree,) for tree in range(trees)]
        units = ((problem, chain) for problem in todo for chain in chains)
        try:
            await self._work_off(units, stop)
        finally:
            self.progress.task_ended()

    async def _work_off(self, units: Iterator[Unit], stop: asyncio.Event) -> None:
        """Do all units, as many at once as the engine wants: another one begins only when one has ended."""
        running: set[asyncio.Task[None]] = set()
        ended: list[asyncio.Task[None]] = []
        woken = self.engine.grown
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: woken.set())

        def on_end(task: asyncio.Task[None]) -> None:
            ended.append(task)
            woken.set()

        left = True
        try:
            while left or running:
                while left and len(running) < self.engine.width:
                    unit = next(units, None)
                    if unit is None:
                        left = False
                        break
                    task = asyncio.create_task(self._work(*unit))
                    running.add(task)
                    task.add_done_callback(on_end)
                if not left and not running:
                    return
                await woken.wait()
                woken.clear()
                if stop.is_set():
                    raise Stopped
                for task in ended:
                    running.discard(task)
                    task.result()
                ended.clear()
        finally:
            for one in [*running, stopping]:
                one.cancel()
            await asyncio.gather(*running, stopping, return_exceptions=True)

    async def _work(self, problem: Problem, chain: tuple[int, ...]) -> None:
        for tree in chain:
            if await self._complete(problem) is not None:
                break
            if not self.ledger.searched(problem, tree) and not await self._search(problem, tree):
                return
        trajectories = await self._complete(problem)
        if trajectories is not None and self.ledger.outcome(problem) is None:
            await self._grade(problem, trajectories)

    async def _complete(self, problem: Problem) -> tuple[Trajectory, ...] | None:
        """`complete`; where that compares answers, in a thread, so that no comparison holds up the other searches."""
        search, log = self.config.search, self.ledger.log
        if search.early_stop and search.trees > 1:
            return await asyncio.to_thread(complete, log, problem, search, scored=self.scored)
        return complete(log, problem, search, scored=self.scored)

    async def _search(self, problem: Problem, tree: int) -> bool:
        """Search a tree and store it; return whether that could be done."""
        spent = Budget()
        try:
            found = await self.engine.search(problem, tree, spent)
        except SetAside as error:
            self.cut_off += 1
            self.set_aside.append(Unfinished(problem.task, problem.id, problem.index, tree, error.tries, error.reason))
            self.progress.note(f"set aside: {problem.task}/{problem.index} ({problem.id}), tree {tree}: {error}")
            return False
        except BaseException:  # cancelled, or the backend is gone: it is done again, and this was spent in vain
            self.cut_off += 1
            self.wasted.add(spent)
            raise
        result = found.result
        ended = self.clock() - self.began
        timing = Timing(self.session, round(max(0.0, ended - found.seconds), 3), round(ended, 3))
        segment = self.segments.of(found.segment) if found.segment else self.store
        if found.tree is not None:
            segment.append_tree(found.tree)
        segment.append_search(search_line(problem.task, problem.index, result, timing))
        self.ledger.add_search(
            SearchRecord(
                problem.task, problem.id, problem.index, tree, result.trajectories, result.budget, result.end, timing
            )
        )
        self.progress.search_done(result.budget.completion_tokens)
        return True

    async def _grade(self, problem: Problem, trajectories: tuple[Trajectory, ...]) -> None:
        record = await asyncio.to_thread(grade_problem, problem, trajectories, self.config, self.version)
        if self.ledger.outcome(problem) is not None:  # two workers may finish a problem's last two trees at once
            return
        self.ledger.add_grade(record, self.config.search.trees)
        self.store.append_grade(to_data(record))
        self.progress.problem_done(record.outcome)


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
