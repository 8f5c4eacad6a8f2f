"""The vocabulary of the mini world: what a sentence can say about two people's counts, and how it is misread.

A relation gives the new person's count from the previous person's. Its `right` and `wrong` are Python expressions
over {x} (the previous count), {w} (an earlier one), {k} and {m} (numbers in the sentence). A relation with a `wrong`
is a *trap*: the wrong expression is what a hurried reader computes; it runs as well and gives another number.

Traps come in three tiers of rarity (A common, B and C rare). The tiers, and how often each is drawn, are design
choices: they set how much a first round of training can gain and what is left for later rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd
from random import Random
from typing import Literal

Tier = Literal["plain", "A", "B", "C"]
Numbers = tuple[int, int]
LARGEST = 999
"""No count in a problem exceeds this."""

_TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times"}
_PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of sentence. `text` may use {P} (previous person), {N} (new person), {W} (an earlier person), {o} and
    {one} (the things, plural and singular), {k}, {m}, {times} and {part} (words for m). `draw` gives (k, m) for a
    random generator and the counts x and w, or None where the relation can't be used."""

    name: str
    tier: Tier
    text: str
    right: str
    wrong: str | None
    draw: Callable[[Random, int, int], Numbers | None]
    needs_earlier: bool = False

    def sentence(self, previous: str, new: str, earlier: str, things: tuple[str, str], numbers: Numbers) -> str:
        """Return the sentence in English."""
        k, m = numbers
        words = {"times": _TIMES.get(m, ""), "part": _PARTS.get(m, "")}
        return self.text.format(P=previous, N=new, W=earlier, o=things[1], one=things[0], k=k, m=m, **words)


@cache
def compiled(expression: str) -> Callable[[int, int, int, int], int]:
    """Return an expression of the table as a function of x, w, k and m."""
    source = expression.format(x="x", w="w", k="k", m="m")
    function: Callable[[int, int, int, int], int] = eval(  # noqa: S307 - our own constants, never a user's text
        f"lambda x, w, k, m: {source}", {"math": __import__("math"), "Fraction": _fraction()}
    )
    return function


def _fraction() -> type:
    from fractions import Fraction

    return Fraction


def _between(low: int, high: int) -> Callable[[Random, int, int], Numbers | None]:
    return lambda rng, x, w: (rng.randint(low, high), 1)


def _below(rng: Random, x: int, w: int) -> Numbers | None:
    return (rng.randint(2, x - 2), 1) if x >= 5 else None


def _factor(rng: Random, x: int, w: int) -> Numbers | None:
    return (rng.randint(2, 20), rng.randint(2, 4))


def _divisor(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [m for m in _PARTS if x % m == 0 and x > m]
    return (0, rng.choice(fitting)) if fitting else None


def _box(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [k for k in range(3, 13) if x % k and x > k]
    return (rng.choice(fitting), 1) if fitting else None


def _post(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [k for k in range(2, 11) if x % k == 0 and x > k]
    return (rng.choice(fitting), 1) if fitting else None


def _percent(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [k for k in (10, 20, 25, 50) if x * k % 100 == 0]
    return (rng.choice(fitting), 1) if fitting else None


def _inverse_percent(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [k for k in (20, 25, 50) if x * 100 % (100 + k) == 0]
    return (rng.choice(fitting), 1) if fitting else None


def _average(rng: Random, x: int, w: int) -> Numbers | None:
    return (rng.randint(x // 2 + 2, 2 * x + 10), 1)


def _common(rng: Random, x: int, w: int) -> Numbers | None:
    fitting = [k for k in range(4, 31) if gcd(k, x) > 1 and x % k and k % x]
    return (rng.choice(fitting), 1) if fitting else None


def _nothing(rng: Random, x: int, w: int) -> Numbers | None:
    return (0, 1)


RELATIONS: tuple[Relation, ...] = (
    Relation("more", "plain", "{N} has {k} more {o} than {P}.", "{x} + {k}", None, _between(2, 60)),
    Relation("fewer", "plain", "{N} has {k} fewer {o} than {P}.", "{x} - {k}", None, _below),
    Relation("times", "plain", "{N} has {times} as many {o} as {P}.", "{x} * {m}", None, _factor),
    Relation("part", "plain", "{N} has {part} as many {o} as {P}.", "{x} // {m}", None, _divisor),
    Relation(
        "both", "plain", "{N} has as many {o} as {P} and {W} together.", "{x} + {w}", None, _nothing,
        needs_earlier=True,
    ),
    Relation("inverse_fewer", "A", "{P}'s {o} are {k} fewer than {N}'s.", "{x} + {k}", "{x} - {k}", _below),
    Relation("inverse_more", "A", "{P}'s {o} are {k} more than {N}'s.", "{x} - {k}", "{x} + {k}", _below),
    Relation(
        "more_than_times", "A", "{N} has {k} more than {times} the number of {o} that {P} has.",
        "{m} * {x} + {k}", "{m} * ({x} + {k})", _factor,
    ),
    Relation(
        "times_of_more", "A", "{N} has {times} as many {o} as {P} would have with {k} more.",
        "{m} * ({x} + {k})", "{m} * {x} + {k}", _factor,
    ),
    Relation(
        "boxes_full", "B", "{P} packs the {o} into boxes of {k}, and {N} has one {one} for every full box.",
        "{x} // {k}", "-(-{x} // {k})", _box,
    ),
    Relation(
        "boxes_needed", "B", "{P} needs boxes for all the {o}, {k} to a box, and {N} has one {one} for every box.",
        "-(-{x} // {k})", "{x} // {k}", _box,
    ),
    Relation(
        "left_over", "B", "{P} packs the {o} into full boxes of {k}, and {N} has as many {o} as are left over.",
        "{x} % {k}", "{x} // {k}", _box,
    ),
    Relation("inverse_times", "B", "{P}'s {o} are {times} as many as {N}'s.", "{x} // {m}", "{x} * {m}", _divisor),
    Relation("dozens", "B", "{N} has {k} dozen more {o} than {P}.", "{x} + 12 * {k}", "{x} + {k}", _between(2, 9)),
    Relation("percent", "B", "{N} has {k}% more {o} than {P}.", "{x} + {x} * {k} // 100", "{x} + {k}", _percent),
    Relation(
        "gaps", "C", "{P} lays the {o} in a row, and {N} has one {one} for every gap between two neighbours.",
        "{x} - 1", "{x}", _nothing,
    ),
    Relation(
        "posts", "C",
        "A fence is as many metres long as {P} has {o}. It has a post every {k} metres and at both ends, "
        "and {N} has one {one} for every post.",
        "{x} // {k} + 1", "{x} // {k}", _post,
    ),
    Relation(
        "inclusive", "C",
        "{N} has one {one} for every whole number from {k} to the number of {o} that {P} has, both included.",
        "{x} - {k} + 1", "{x} - {k}", _below,
    ),
    Relation(
        "inverse_percent", "C", "{P}'s {o} are {k}% more than {N}'s.",
        "{x} * 100 // (100 + {k})", "{x} - {x} * {k} // 100", _inverse_percent,
    ),
    Relation(
        "average", "C", "{P} and {N} have {k} {o} each on average.", "2 * {k} - {x}", "({x} + {k}) // 2", _average,
    ),
    Relation(
        "multiple", "C",
        "{N} has the smallest number of {o} that is a multiple both of {k} and of the number that {P} has.",
        "math.lcm({x}, {k})", "{x} * {k}", _common,
    ),
)  # fmt: skip
"""Every relation of the mini world. Changing this table changes the test sets: it needs a new version."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A last operation within the question itself; fields as in Relation. `result` names what it computes."""

    name: str
    text: str
    right: str
    result: str
    draw: Callable[[Random, int, int], Numbers | None]


def _larger(rng: Random, x: int, w: int) -> Numbers | None:
    return (0, 1) if x > w else None


def _other(rng: Random, x: int, w: int) -> Numbers | None:
    return (0, 1) if x != w else None


ENDINGS: tuple[Ending, ...] = (
    Ending("together", "How many {o} do {P} and {W} have together?", "{x} + {w}", "total", _nothing),
    Ending("difference", "How many more {o} does {P} have than {W}?", "{x} - {w}", "difference", _larger),
    Ending(
        "sale", "{P} sells all the {o} for {k} cents each. How many cents does {P} get?",
        "{x} * {k}", "cents", _between(2, 9),
    ),
    Ending("gift", "{P} gives {k} {o} away. How many {o} are left for {P}?", "{x} - {k}", "left", _below),
)  # fmt: skip

FRACTIONS: tuple[Ending, ...] = (
    Ending(
        "ratio", "What is {P}'s number of {o} divided by {W}'s, as a fraction in lowest terms?",
        "Fraction({x}, {w})", "ratio", _other,
    ),
    Ending(
        "share", "{P} and {W} put their {o} together. What fraction of these came from {P}, in lowest terms?",
        "Fraction({x}, {x} + {w})", "share", _other,
    ),
)  # fmt: skip
"""Endings of the olympiad family: the answer is a fraction (or a whole number, where it divides)."""
