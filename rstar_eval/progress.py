"""What a running evaluation tells: a live bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rstar_eval.stats import wilson

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """What the runner calls."""

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """A task begins: `done` of `total` problems are finished already, `correct` of them right."""
        ...

    def search_done(self, tokens: int) -> None:
        """A search ended after generating `tokens` tokens."""
        ...

    def problem_done(self, outcome: str) -> None:
        """A problem was graded."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know."""
        ...

    def task_ended(self) -> None:
        """The task's problems are done, or the run was stopped."""
        ...


@dataclass(slots=True)
class _Counts:
    task: str = ""
    total: int = 0
    done: int = 0
    correct: int = 0
    fresh: int = 0
    tokens: int = 0
    started: float = 0.0

    def accuracy(self) -> str:
        if not self.done:
            return "accuracy -"
        low, high = wilson(self.correct, self.done)
        return f"accuracy {self.correct / self.done:.3f} [{low:.3f}, {high:.3f}]"

    def rate(self) -> float:
        return self.tokens / max(1e-9, time.monotonic() - self.started)

    def left(self) -> str:
        if not self.fresh:
            return "left -"
        each = (time.monotonic() - self.started) / self.fresh
        seconds = int(each * (self.total - self.done))
        return f"left {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class LineProgress:
    """One plain line every `every` seconds at most, and one at the end of each task."""

    def __init__(self, console: Console, every: float = 10.0) -> None:
        self._console, self._every = console, every
        self._counts, self._last = _Counts(), 0.0

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """See Progress."""
        self._counts = _Counts(task, total, done, correct, started=time.monotonic())
        self._last = time.monotonic()
        resumed = f", {done} done before" if done else ""
        self._print(f"{task}: {total} problems{resumed}")

    def search_done(self, tokens: int) -> None:
        """See Progress."""
        self._counts.tokens += tokens

    def problem_done(self, outcome: str) -> None:
        """See Progress."""
        counts = self._counts
        counts.done, counts.fresh = counts.done + 1, counts.fresh + 1
        counts.correct += outcome == "correct"
        if time.monotonic() - self._last >= self._every:
            self._line()

    def note(self, text: str) -> None:
        """See Progress."""
        self._print(f"note: {text}")

    def task_ended(self) -> None:
        """See Progress."""
        self._line()

    def _line(self) -> None:
        counts, self._last = self._counts, time.monotonic()
        self._print(
            f"{counts.task}: {counts.done}/{counts.total} problems, {counts.accuracy()}, "
            f"{counts.rate():.0f} tokens/s, {counts.left()}"
        )

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """A bar that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._counts = _Counts()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[accuracy]}"),
            TextColumn("{task.fields[rate]:.0f} tokens/s"),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._row: Any = None

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """See Progress."""
        self._counts = counts = _Counts(task, total, done, correct, started=time.monotonic())
        self._row = self._bar.add_task(
            task, total=total, completed=done, accuracy=counts.accuracy(), rate=0.0, left="left -"
        )
        self._bar.start()

    def search_done(self, tokens: int) -> None:
        """See Progress."""
        self._counts.tokens += tokens
        self._draw()

    def problem_done(self, outcome: str) -> None:
        """See Progress."""
        counts = self._counts
        counts.done, counts.fresh = counts.done + 1, counts.fresh + 1
        counts.correct += outcome == "correct"
        self._draw()

    def note(self, text: str) -> None:
        """See Progress."""
        self._bar.console.print(f"note: {text}", markup=False, highlight=False)

    def task_ended(self) -> None:
        """See Progress."""
        self._draw()
        self._bar.stop()

    def _draw(self) -> None:
        counts = self._counts
        self._bar.update(
            self._row, completed=counts.done, accuracy=counts.accuracy(), rate=counts.rate(), left=counts.left()
        )


class Silent:
    """Tells nobody anything."""

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """See Progress."""

    def search_done(self, tokens: int) -> None:
        """See Progress."""

    def problem_done(self, outcome: str) -> None:
        """See Progress."""

    def note(self, text: str) -> None:
        """See Progress."""

    def task_ended(self) -> None:
        """See Progress."""


def make_progress(console: Console) -> Progress:
    """Return a live bar if `console` is a terminal, else plain lines."""
    return LiveProgress(console) if console.is_terminal else LineProgress(console)
