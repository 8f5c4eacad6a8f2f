"""The bootstrap author: scripted solutions of easy problems, with the mistakes of a pupil who was never corrected.

A reader who falls for a trap falls for it again: the wrong plan is what the author prefers, most of all in rare traps.
A policy trained on this is right on a minority of the problems, and its samples hold right steps that a search can
find. (Random mistakes would not do: greedy decoding removes them.) How often each tier is misread is a design choice;
it sets how much the rounds of self-evolution can gain.

The author reads plans, and with them answers: it belongs to training, before the first round, and to nothing else.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from rstar_eval.solver.formats.rstar import ANSWER, CODE, END_ANSWER, END_CODE, END_STEP, RStarFormat
from rstar_eval.tasks.mini import MiniItem, PlanStep, generate
from rstar_eval.tasks.mini.relations import Tier


@dataclass(frozen=True, slots=True)
class Author:
    """How the bootstrap author works.

    misread: chance that a trap of a tier is fallen for. slip: chance that a step without a trap goes wrong (another
    number, or plus for minus). levels: share of each level among the demonstrations; `chain` has long problems
    without rare traps (from them the base learns to follow many sentences), `drill` single rare traps (without them
    the base never samples the right reading of the rarest kinds, and no search can find what is never sampled).
    """

    misread: Mapping[Tier, float] = field(default_factory=lambda: {"A": 0.63, "B": 0.85, "C": 0.8})
    slip: float = 0.04
    levels: Mapping[str, float] = field(
        default_factory=lambda: {
            "1": 0.09,
            "2": 0.17,
            "3": 0.17,
            "drill": 0.09,
            "chain": 0.34,
            "college": 0.07,
            "gaokao": 0.07,
        }
    )


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One solution: the question, the author's response in the step grammar, the problem's level, and whether its
    answer is right."""

    question: str
    response: str
    level: str
    right: bool


def solution_text(steps: list[tuple[str, str]], result: str, output: str) -> str:
    """Return a solution in the step grammar: `steps` are (comment, code), `result` the variable that is printed,
    `output` what that prints."""
    parts = []
    for place, (comment, code) in enumerate(steps):
        opening = CODE if place == 0 else ""
        closing = f"print({result})\n{END_CODE}" if place == len(steps) - 1 else END_STEP
        parts.append(f"{opening}\n# {comment}\n{code}\n{closing}")
    return f"{''.join(parts)}{RStarFormat().render_output(output)}\n{ANSWER}\\boxed{{{output}}}{END_ANSWER}"


def demonstrate(item: MiniItem, author: Author, rng: Random) -> Demonstration:
    """Return the author's solution of a problem, its mistakes drawn from `rng`."""
    steps: list[PlanStep] = []
    for step in item.steps:
        if step.wrong is not None and rng.random() < author.misread[step.tier]:
            steps.append(step.wrong)
        elif step.wrong is None and rng.random() < author.slip:
            steps.append(_slipped(step.right, rng))
        else:
            steps.append(step.right)
    try:
        output = _printed(steps)
    except (ArithmeticError, ValueError):  # a slip may divide by zero or empty a set; then there was none
        steps = list(item.plan)
        output = _printed(steps)
    text = solution_text([(step.comment, step.code) for step in steps], steps[-1].result, output)
    return Demonstration(item.text, text, item.level, output == item.answer)


def corpus(count: int, seed: int, author: Author | None = None) -> Iterator[Demonstration]:
    """Yield `count` demonstrations of training problems, different within a level, levels mixed by the author's shares.
    A function of the arguments alone."""
    author = author or Author()
    rng, items = _drawn(count, seed, author)
    for item in items:
        yield demonstrate(item, author, rng)


def corpus_texts(count: int, seed: int, author: Author | None = None) -> set[str]:
    """Return the texts of the problems of `corpus`."""
    return {item.text for item in _drawn(count, seed, author or Author())[1]}


def _drawn(count: int, seed: int, author: Author) -> tuple[Random, list[MiniItem]]:
    """Return the corpus's problems, and the source of randomness after they were drawn."""
    rng = Random(f"author|{seed}")
    names = list(author.levels)
    drawn = rng.choices(names, [author.levels[name] for name in names], k=count)
    pools = {name: iter(generate("train", name, drawn.count(name), seed)) for name in names if name in drawn}
    return rng, [next(pools[name]) for name in drawn]


def _printed(steps: list[PlanStep]) -> str:
    """Return what the author's own code prints (never a model's: this runs in our process)."""
    output = io.StringIO()
    source = "\n".join([*(step.code for step in steps), f"print({steps[-1].result})"])
    with contextlib.redirect_stdout(output):
        exec(source, {})  # noqa: S102
    return output.getvalue().strip()


def _slipped(step: PlanStep, rng: Random) -> PlanStep:
    """Return the step with its last line gone wrong: another operation, or the operands of a difference swapped."""
    *head, line = step.code.split("\n")
    for right, wrong in ((" + ", " - "), (" - ", " + "), (" * ", " + "), (" // ", " * ")):
        if right in line:
            line = line.replace(right, wrong, 1)
            break
    return PlanStep(step.comment, "\n".join([*head, line]), step.result)
