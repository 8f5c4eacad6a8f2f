"""What the generator yields: a problem, and apart from it the plans that a teacher may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rstar_eval.problem import Problem, problem_id
from rstar_eval.tasks.mini.relations import Tier


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of a plan: a comment in English and the Python code that computes `result` (a variable's name)."""

    comment: str
    code: str
    result: str


@dataclass(frozen=True, slots=True)
class ItemStep:
    """One operation of a problem: the right step, the trap's wrong step (None: no trap), and the relation's name and
    tier."""

    right: PlanStep
    wrong: PlanStep | None
    relation: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class MiniItem:
    """A generated problem with its solution. Never give one to a solver: `as_problems` makes the problems.

    text, answer: the question and its gold answer. level: 1 to 5, or a family's name. steps: its operations in order.
    wrong_answer: what one gets by falling for every trap (None: there is no trap).
    """

    text: str
    answer: str
    level: str
    steps: tuple[ItemStep, ...]
    wrong_answer: str | None

    @property
    def plan(self) -> tuple[PlanStep, ...]:
        """The reference plan: running its code in order leaves the answer in the last step's result."""
        return tuple(step.right for step in self.steps)

    @property
    def wrong_plan(self) -> tuple[PlanStep, ...] | None:
        """The plan that falls for every trap, or None if there is no trap. It runs, to `wrong_answer`."""
        if self.wrong_answer is None:
            return None
        return tuple(step.wrong or step.right for step in self.steps)


def plan_code(plan: Sequence[PlanStep]) -> str:
    """Return a plan as one Python program that prints the answer."""
    lines = [f"# {step.comment}\n{step.code}" for step in plan]
    return "\n".join([*lines, f"print({plan[-1].result})"])


def as_problems(task: str, items: Sequence[MiniItem]) -> tuple[Problem, ...]:
    """Return the items as problems of `task`, in order, without their plans."""
    return tuple(
        Problem(problem_id(task, index, item.text), task, index, item.text, item.answer, level=item.level)
        for index, item in enumerate(items)
    )
