"""Runs in an experiment tracker: `--track mlflow|wandb|trackio[:WHERE]`, or later `rstar-eval export RUN --track ...`.

A run's folder is its truth; a tracker gets a copy of its settings, of its figures while it runs, and at its end of all
of them and of its reports. It is never asked anything, and when it fails the run goes on. No question and no answer is
sent. The same run, continued or sent again, is the same run there.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from rstar_eval.config import config_hash
from rstar_eval.errors import UserError, nearest
from rstar_eval.progress import Progress
from rstar_eval.stats import wilson
from rstar_eval.summary import RunSummary, TaskSummary

T = TypeVar("T")
Status = Literal["finished", "stopped", "failed"]
EVERY_SECONDS = 10.0
"""Figures of a run under way are sent so often at most."""
REPORTS = ("summary.json", "summary.md", "manifest.json")


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is told when a run begins. id: 16 hex digits, the same for the same folder and configuration.
    name: the folder's. settings: those that make it this run, flat."""

    id: str
    name: str
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """A tracker's side of one run. Its methods are called from one thread, in the order start, log ..., finish; what
    they raise ends the tracking, not the run."""

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or take it up again."""
        ...

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take figures of the run under way; `step` is the number of problems done."""
        ...

    def finish(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        """Take the run's last figures and its reports, and end it."""
        ...


class Tracking:
    """One run on its way to one tracker, from a thread of its own: a slow service holds up no search."""

    def __init__(self, spec: str, tracker: Tracker, path: Path, settings: Mapping[str, Any]) -> None:
        self.spec, self.path, self.settings = spec, path, settings
        self.error: str | None = None
        self._tracker = tracker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")
        self._ended = False

    async def start(self) -> None:
        """Begin. UserError if the tracker can't be reached or used: before anything was spent."""
        digest = hashlib.sha256(f"{self.path.resolve()}\x1f{config_hash(self.settings)}".encode()).hexdigest()[:16]
        run = TrackedRun(digest, self.path.name, self.settings)
        try:
            await self._call(self._tracker.start, run)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"can't track the run with {self.spec!r}: {error}", "mend it, or leave out --track"
            ) from error

    def watch(self, progress: Progress) -> Progress:
        """Return a progress that tells `progress` everything, and the tracker now and then."""
        return _TrackedProgress(progress, self)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send figures; returns at once. What goes wrong is told by `failure` and at the end."""
        if self.error is None:
            self._thread.submit(self._tracker.log, figures, step).add_done_callback(self._note_failure)

    async def finish(self, summary: RunSummary, *, stopped: bool) -> str | None:
        """Send the last figures and the reports; returns what went wrong since the start, if anything did."""
        figures, step = figures_of(summary), sum(one.n for one in summary.tasks)
        files = [summary.path / name for name in REPORTS if (summary.path / name).exists()]
        status: Status = "stopped" if stopped else "finished"
        await self._end(figures, step, files, status)
        return self.error

    async def close(self) -> None:
        """End a run that was not finished as failed, and the thread. May be called twice."""
        if not self._ended:
            await self._end({}, 0, [], "failed")
        await asyncio.to_thread(self._thread.shutdown)

    async def _end(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        self._ended = True
        try:
            await self._call(self._tracker.finish, figures, step, files, status)
        except Exception as error:  # noqa: BLE001  whatever a service's client raises: told, and the run's own end stands
            self.error = self.error or _words(error)

    def _note_failure(self, done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            self.error = self.error or _words(error)

    async def _call(self, method: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.wrap_future(self._thread.submit(method, *arguments))


class _TrackedProgress:
    """A progress between the runner and the user's own."""

    def __init__(self, inner: Progress, tracking: Tracking, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._tracking, self._clock = inner, tracking, clock
        self._task = ""
        self._done = self._correct = self._tokens = self._before = 0
        self._last, self._told = clock(), False

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """See Progress."""
        self._inner.task_started(task, total, done, correct)
        self._before += self._done
        self._task, self._done, self._correct, self._tokens = task, done, correct, 0

    def search_done(self, tokens: int) -> None:
        """See Progress."""
        self._inner.search_done(tokens)
        self._tokens += tokens

    def problem_done(self, outcome: str) -> None:
        """See Progress."""
        self._inner.problem_done(outcome)
        self._done += 1
        self._correct += outcome == "correct"
        if self._clock() - self._last >= EVERY_SECONDS:
            self._send()

    def note(self, text: str) -> None:
        """See Progress."""
        self._inner.note(text)

    def task_ended(self) -> None:
        """See Progress."""
        self._inner.task_ended()
        self._send()

    def _send(self) -> None:
        self._last = self._clock()
        if self._done:
            low, high = wilson(self._correct, self._done)
            figures = {"accuracy": self._correct / self._done, "interval_low": low, "interval_high": high}
            figures |= {"done": float(self._done), "session_tokens": float(self._tokens)}
            self._tracking.log({f"{self._task}/running/{name}": value for name, value in figures.items()}, self._step())
        if self._tracking.error is not None and not self._told:
            self._told = True
            self.note(f"tracking failed, the run goes on: {self._tracking.error}")

    def _step(self) -> int:
        return self._before + self._done


def figures_of(summary: RunSummary) -> dict[str, float]:
    """Return a run's figures, flat: TASK/accuracy, TASK/interval_low, TASK/pass_at_8 and so on (see TaskSummary)."""
    found: dict[str, float] = {}
    for one in summary.tasks:
        found |= {f"{one.task}/{name}": value for name, value in _of_task(one).items()}
    return found


def _of_task(one: TaskSummary) -> dict[str, float]:
    low, high = one.interval
    found = {"accuracy": one.accuracy, "interval_low": low, "interval_high": high, "avg": one.avg}
    for name in ("n", "correct", "wrong", "no_answer", "grader_error", "tokens", "prompt_tokens", "seconds"):
        found[name] = float(getattr(one, name))
    for point in one.curve:
        found |= {f"pass_at_{point.k}": point.pass_at_k, f"maj_at_{point.k}": point.maj_at_k}
    return found


async def start_tracking(spec: str, path: Path, settings: Mapping[str, Any]) -> Tracking:
    """Return the begun tracking of the run in folder `path`.

    spec: mlflow[:URI], wandb[:[ENTITY/]PROJECT] or trackio[:PROJECT]. UserError for another one, a package that is not
    installed, or a tracker that can't be reached.
    """
    from rstar_eval.trackers import TRACKERS

    name, _, where = spec.partition(":")
    if name not in TRACKERS:
        raise UserError(f"unknown tracker {name!r}", nearest(name, TRACKERS))
    tracking = Tracking(spec, TRACKERS[name](where), path, settings)
    await tracking.start()
    return tracking


def track_stored_run(spec: str, path: Path) -> None:
    """Send a stored run to a tracker. UserError as `start_tracking`'s, for a folder that is no run, or if it fails."""
    from rstar_eval.summary import summarise

    async def send(summary: RunSummary) -> None:
        tracking = await start_tracking(spec, path, summary.manifest["config"])
        try:
            stopped = summary.manifest["sessions"][-1]["ended"] != "finished"
            if (error := await tracking.finish(summary, stopped=stopped)) is not None:
                raise UserError(f"tracking with {spec!r} failed: {error}", "mend it and give the command again")
        finally:
            await tracking.close()

    asyncio.run(send(summarise(path)))


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
