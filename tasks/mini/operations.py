"""What the families whose state is no count have in common: a problem is a list of operations on a state (a set of
numbers, a polynomial), the last of which asks for a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from rstar_eval.tasks.mini.items import ItemStep, MiniItem, PlanStep
from rstar_eval.tasks.mini.relations import Tier

LARGEST_ANSWER = 9999


@dataclass(frozen=True, slots=True)
class Operation:
    """One sentence. right, wrong: the code that computes `result` (a variable's name), and what a hurried reader would
    compute (None: it is no trap). apply, misapply: the same on a state; from the last operation of a problem comes a
    number. Both may raise ArithmeticError or ValueError where they do not apply."""

    name: str
    tier: Tier
    sentence: str
    comment: str
    result: str
    right: str
    apply: Callable[[Any], Any]
    wrong: str | None = None
    misapply: Callable[[Any], Any] | None = None

    def step(self) -> ItemStep:
        """Return the operation as a problem's step."""
        wrong = None if self.wrong is None else PlanStep(self.comment, self.wrong, self.result)
        return ItemStep(PlanStep(self.comment, self.right, self.result), wrong, self.name, self.tier)


def pick(rng: Random, weights: Mapping[Tier, float], operations: Sequence[Operation]) -> Operation:
    """Return one of `operations`: first a tier by the weights, then any of that tier."""
    tier = rng.choices(tuple(weights), tuple(weights.values()))[0]
    return rng.choice([one for one in operations if one.tier == tier])


def assemble(level: str, operations: Sequence[Operation]) -> MiniItem | None:
    """Return the problem; None if its answer is no whole number or too large, or if one of its traps, alone or with the
    others, changes nothing or does not run."""
    traps = [place for place, one in enumerate(operations) if one.misapply is not None]
    try:
        answer = _value(operations, set())
        alone = [_value(operations, {place}) for place in traps]
        wrong = _value(operations, set(traps)) if traps else None
    except (ArithmeticError, ValueError):
        return None
    if answer.denominator != 1 or abs(answer) > LARGEST_ANSWER or answer in (*alone, wrong):
        return None
    text = " ".join(one.sentence for one in operations)
    steps = tuple(one.step() for one in operations)
    return MiniItem(text, str(answer), level, steps, None if wrong is None else str(wrong))


def _value(operations: Sequence[Operation], fallen: set[int]) -> Fraction:
    state: Any = None
    for place, one in enumerate(operations):
        function = one.misapply if place in fallen and one.misapply is not None else one.apply
        state = function(state)
    return Fraction(state)
