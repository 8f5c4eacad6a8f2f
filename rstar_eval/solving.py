"""One question, one answer: the solver without a task, a store or a gold answer (`rstar-eval solve`)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from rstar_eval.config import RunConfig, build_config
from rstar_eval.errors import UserError
from rstar_eval.grading import group_answers
from rstar_eval.problem import problem_id
from rstar_eval.serial import to_data
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.executor import start_executor
from rstar_eval.solver.protocols import Policy
from rstar_eval.solver.reward import make_reward
from rstar_eval.solver.search import Choice, Event, Observer, Tools, choose_answer, decided, search
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.tree import Node, root_of, tree_data
from rstar_eval.solver.types import Budget, Question, SearchEnd, SearchResult, Trajectory

T = TypeVar("T")


class Interrupted(Exception):
    """The user asked to stop (Ctrl-C, SIGTERM) before there was a result."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What was found for a question.

    choice: how the answer was chosen, with the votes. trajectories: of all trees in their order. budget: of all trees.
    trees: each search's tree as plain data (`solver.tree.tree_data`; None for a strategy without trees). ends: why each
    search ended (of those that did). seconds: wall time without loading the models. stopped: whether it was
    interrupted; all else is then of what had been found by then.
    """

    question: str
    answer: str | None
    choice: Choice
    trajectories: tuple[Trajectory, ...]
    budget: Budget
    trees: tuple[dict[str, object] | None, ...]
    ends: tuple[SearchEnd, ...]
    seconds: float
    stopped: bool

    def data(self) -> dict[str, Any]:
        """Return it as plain data. `tree` is that of the first search; with several there is `trees`, too."""
        data = {
            "question": self.question,
            "answer": self.answer,
            "choice": {key: value for key, value in to_data(self.choice).items() if key != "answer"},
            "trajectories": [to_data(one) for one in self.trajectories],
            "budget": to_data(self.budget),
            "ends": list(self.ends),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "tree": self.trees[0] if self.trees else None,
        }
        return data | ({"trees": list(self.trees)} if len(self.trees) > 1 else {})


def solve(
    question: str,
    *,
    observer: Observer | None = None,
    notify: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Solution:
    """Search an answer to one question: `solve("What is 17 * 24?", policy="smollm2", strategy="mcts", rollouts=8)`.

    `settings` are those of the main job (policy, reward, strategy, rollouts, candidates, isolation ...). `observer` is
    told what the search does (solver.context.Event), `notify` what the user should know. Ctrl-C stops it and gives what
    was found so far. UserError for what the user can mend; in a running event loop (a notebook) too: await
    `solve_async` there.
    """
    outside_of_loops("solve", "solve_async")
    return asyncio.run(solve_async(question, observer=observer, notify=notify, **settings))


async def solve_async(
    question: str,
    *,
    observer: Observer | None = None,
    notify: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Solution:
    """Search an answer to one question, as `solve` does, inside of an event loop. Cancelling it ends the search."""
    return await solve_question(question, build_config(settings), observer=observer, notify=notify)


def outside_of_loops(name: str, twin: str) -> None:
    """UserError naming the function to await if an event loop is running in this thread, as in a notebook's cells."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UserError(f"{name}() was called inside of a running event loop", f"write await {twin}(...) there")


async def solve_question(
    question: str,
    config: RunConfig,
    *,
    observer: Observer | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Solution:
    """Start the models and the sandbox of `config`, search, and close them. See `solve`; `config.tasks` and what says
    which problems or where to store are not used. Interrupted if it is stopped while the models load."""
    if not question.strip():
        raise UserError("the question is empty", 'write rstar-eval solve "QUESTION"')
    stop = asyncio.Event()
    with signals_set(stop):
        async with open_tools(config, notify, stop) as tools:
            asked = Question(problem_id("solve", 0, question), question)
            return await solve_with(asked, tools, config, observer=observer, stop=stop)


async def solve_with(
    question: Question,
    tools: Tools,
    config: RunConfig,
    *,
    observer: Observer | None = None,
    stop: asyncio.Event | None = None,
) -> Solution:
    """Search with models that are there already. When `stop` is set the search ends and what was found is returned;
    BackendError if a model is gone for good."""
    stop = stop or asyncio.Event()
    found: dict[int, list[Trajectory]] = {tree: [] for tree in range(config.search.trees)}
    spent: dict[int, Budget] = {}
    done: dict[int, SearchResult] = {}
    roots: dict[int, Node] = {}

    def watch(event: Event) -> None:
        spent[event.tree] = event.budget
        roots.setdefault(event.tree, root_of(event.node))
        if event.trajectory is not None:
            found[event.tree].append(event.trajectory)
        if observer is not None:
            observer(event)

    async def one(tree: int) -> None:
        done[tree] = await search(question, tools, config.search, tree, keep_tree=True, observer=watch)

    async def run() -> None:
        trees = range(config.search.trees)
        if not config.search.early_stop:
            await together(one(tree) for tree in trees)
            return
        for tree in trees:  # whether a tree is grown depends on the ones before it, as in the main job
            await one(tree)
            so_far = [each for result in done.values() for each in result.trajectories]
            left = (config.search.trees - tree - 1) * config.search.tree_share
            scored = tools.reward is not None
            if await asyncio.to_thread(decided, so_far, left, config.search, tools.group, scored=scored):
                return

    began, stopped = time.monotonic(), False
    try:
        await _unless(stop, run())
    except Interrupted:
        stopped = True
    trajectories = tuple(each for tree in found for each in (done[tree].trajectories if tree in done else found[tree]))
    budget = Budget()
    for tree in sorted({*spent, *done}):
        budget.add(done[tree].budget if tree in done else spent[tree])
    choice = await asyncio.to_thread(choose_answer, trajectories, config.search, tools.group)
    return Solution(
        question=question.text,
        answer=choice.answer,
        choice=choice,
        trajectories=trajectories,
        budget=budget,
        trees=tuple(
            done[tree].tree
            if tree in done
            else tree_data(roots[tree])
            if STRATEGIES[config.search.strategy].tree
            else None
            for tree in found
            if tree in done or tree in roots
        ),
        ends=tuple(done[tree].end for tree in sorted(done)),
        seconds=time.monotonic() - began,
        stopped=stopped,
    )


@contextlib.asynccontextmanager
async def open_tools(
    config: RunConfig,
    notify: Callable[[str], None],
    stop: asyncio.Event | None = None,
    *,
    policy: Policy | None = None,
) -> AsyncIterator[Tools]:
    """Start the models and the sandbox of `config`, and close them at the end. UserError if one can't be started;
    Interrupted if `stop` is set meanwhile. policy: one that is there already (closed with the others) instead of the
    config's."""
    stop = stop or asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        if policy is None:
            policy = await _unless(stop, make_policy(config.policy, notify=notify))
        stack.push_async_callback(policy.close)
        executor = await _unless(stop, start_executor(config.isolation, step_seconds=config.step_seconds))
        stack.push_async_callback(executor.close)
        reward = None
        if config.reward:
            reward = await _unless(stop, make_reward(config.reward))
            stack.push_async_callback(reward.close)
        yield Tools(policy, executor, reward, group_answers)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives; when `stop` is set first, cancel it, wait for its end, and raise Interrupted."""
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, watcher], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


@contextlib.contextmanager
def signals_set(stop: asyncio.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `stop` meanwhile (where signals can be had: in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
