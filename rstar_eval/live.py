"""A search while it runs: a picture that is redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from rstar_eval.config import RunConfig
from rstar_eval.grading import group_answers
from rstar_eval.solver.choose import Choice
from rstar_eval.solver.search import Event, Observer, choose_answer
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.tree import Node, path_to, root_of, tree_data
from rstar_eval.solver.types import Budget, Trajectory
from rstar_eval.tree_text import Line, headline, one_line, tree_lines
from rstar_eval.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, Group

LOOKS = {"chosen": "bold green", "failed": "red", "plain": "", "faint": "dim"}
PERIOD = 0.2
"""Seconds between two pictures."""
LARGE = 400
"""Nodes of a tree above which only the last steps of the best line are drawn while it grows."""


def say_line(console: Console, line: Line) -> None:
    """Print a line of a tree in its look."""
    console.print(line.text, style=LOOKS[line.look], markup=False, highlight=False, soft_wrap=True)


class Picture:
    """What an observer has seen of a search, and how it is drawn."""

    def __init__(self, question: str, config: RunConfig) -> None:
        self.question, self.config = question, config
        self.roots: dict[int, Node] = {}
        self.solutions: dict[int, Node] = {}
        self.budgets: dict[int, Budget] = {}
        self.found: list[Trajectory] = []
        self.nodes = 0
        self.began = time.monotonic()
        self.choice: Choice | None = None

    def observe(self, event: Event) -> None:
        """Take in an event."""
        if not self.budgets:
            self.began = time.monotonic()  # the models are loaded
        self.budgets[event.tree] = event.budget
        if STRATEGIES[self.config.search.strategy].tree:
            self.roots[event.tree] = root_of(event.node)
            self.nodes += len(event.node.children or ()) if event.trajectory is None else 0
        else:
            self.solutions[id(root_of(event.node))] = event.node
        if event.trajectory is not None:
            self.found.append(event.trajectory)
            self.choice = choose_answer(self.found, self.config.search, group_answers)

    def draw(self, height: int) -> Group:
        """Return the picture for a screen of `height` lines."""
        from rich.console import Group
        from rich.text import Text

        def text(content: str, style: str = "") -> Text:
            return Text(visible(content), style=style, no_wrap=True, overflow="ellipsis")

        tokens = sum(one.completion_tokens for one in self.budgets.values())
        spent = time.monotonic() - self.began
        search = self.config.search
        head = [
            text(one_line(self.question), "bold"),
            text(
                f"{search.strategy}: {len(self.found)} of {search.rollouts} trajectories, {tokens} tokens, "
                f"{tokens / max(spent, 1e-9):.0f} tokens/s, {spent:.0f} s"
            ),
        ]
        best = [text(line.text, LOOKS[line.look]) for line in self._best_lines()]
        votes = [text(line.text) for line in self._vote_lines()]
        room = max(3, height - len(head) - len(votes) - 3)
        best = best[-max(2, room // 2) :]
        tree = [text(line.text, LOOKS[line.look]) for line in self._tree_lines()]
        room = max(1, room - len(best))
        if len(tree) > room:
            tree = [*tree[: room - 1], text(f"… {len(tree) - room + 1} more lines", "dim")]
        return Group(*head, *tree, text("best line", "bold"), *best, *votes)

    def _tree_lines(self) -> list[Line]:
        if not STRATEGIES[self.config.search.strategy].tree:
            return [Line(f"solution {i}: {_state(node)}") for i, node in enumerate(self.solutions.values())]
        lines: list[Line] = []
        best = self._best()
        for number, root in sorted(self.roots.items()):
            if self.nodes > LARGE:
                lines.append(Line(f"tree {number}: N={root.visits} Q={root.q:+.2f}, {self.nodes} steps in all trees"))
                continue
            chosen = best.rollout if best is not None and best.tree == number else None
            lines += tree_lines(tree_data(root)["nodes"], chosen=chosen)  # type: ignore[arg-type]
        return lines

    def _best(self) -> Trajectory | None:
        if self.choice is None or self.choice.trajectory is None:
            return None
        return self.found[self.choice.trajectory]

    def _best_lines(self) -> list[Line]:
        best = self._best()
        if best is None:
            return [Line("no answer yet", "faint")]
        lines: list[Line] = []
        for step in best.steps:
            lines += [Line("  " + part) for part in (step.code or step.text).strip("\n").splitlines()]
            if step.output:
                lines.append(Line(f"    output: {one_line(step.output)}", "chosen"))
            if step.error:
                lines.append(Line(f"    {one_line(step.error)}", "failed"))
        return lines

    def _vote_lines(self) -> list[Line]:
        if self.choice is None or not self.choice.votes:
            return []
        votes = ", ".join(f"{one_line(answer)}: {weight:.3g}" for answer, weight in self.choice.votes[:6])
        return [Line(f"vote ({self.choice.rule}): {votes}")]


def _state(node: Node) -> str:
    steps = len(path_to(node))
    if node.end == "answer":
        return f"{steps} steps, answer {one_line(str(node.answer))}"
    ended = f", {node.end}" if node.end else ""
    shown = headline({"code": node.code, "text": node.text, "error": node.error})
    return f"{steps} steps{ended}: {shown}"


@contextlib.asynccontextmanager
async def watching(
    question: str, config: RunConfig, screen: Console, errors: Console
) -> AsyncIterator[tuple[Observer, Callable[[str], None]]]:
    """Yield an observer that shows a search on `screen` if that is a terminal, else as plain lines on `errors`, and
    what prints a note."""
    picture = Picture(question, config)

    def note(text: str) -> None:
        errors.print(f"note: {visible(text)}", markup=False, highlight=False, soft_wrap=True)

    if not screen.is_terminal:

        def plain(event: Event) -> None:
            picture.observe(event)
            if event.trajectory is not None:
                one = event.trajectory
                what = f"answer {one_line(one.answer)}" if one.answer is not None else one.end
                text = f"trajectory {len(picture.found)} (tree {one.tree}): {what}, {len(one.steps)} steps"
                errors.print(text, markup=False, highlight=False, soft_wrap=True)

        yield plain, note
        return
    from rich.live import Live

    with Live(console=screen, auto_refresh=False, transient=True) as live:

        async def redraw() -> None:
            while True:
                if picture.budgets:
                    live.update(picture.draw(screen.height), refresh=True)
                await asyncio.sleep(PERIOD)

        def live_note(text: str) -> None:
            live.console.print(f"note: {visible(text)}", markup=False, highlight=False, soft_wrap=True)

        task = asyncio.ensure_future(redraw())
        try:
            yield picture.observe, live_note
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
