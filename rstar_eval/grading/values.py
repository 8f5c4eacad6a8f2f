"""What an answer can be: the records that reading gives and comparison takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rstar_eval.grading.tree import Node
from rstar_eval.grading.units import Unit


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression with what stands around it.

    percent: it ends with a percent sign (then `node` is the number before it). base: a number written in that base
    (`node` holds its digits). digits: significant digits if it is one decimal literal, else 0. loose: number and unit
    if the letters at its end are a unit, as `3 h` may be.
    """

    node: Node
    unit: Unit | None = None
    percent: bool = False
    base: int | None = None
    digits: int = 0
    loose: tuple[Node, Unit] | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """Plain words: `text` casefolded, without spaces and marks; `raw` as they stand."""

    text: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Letters of options, in order of the alphabet, and the text that stands beside a single one."""

    letters: frozenset[str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Items:
    """Several values. kind: `list` (commas, "and", "or": unordered), `set` (unordered), `tuple` (ordered), `bracket`
    ([...]: a printed list, or an ordered vector)."""

    kind: Literal["list", "set", "tuple", "bracket"]
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of the real line."""

    low: Node
    high: Node
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class RealSet:
    """A union of intervals (isolated points are closed intervals of length 0). variable: what it was solved for, if
    it was written as an inequality."""

    parts: tuple[Interval, ...]
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Equation:
    """left = right, without a name on one side that could be left out."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Labelled:
    """A named value: x = 5, f(x) = x + 1, (x, y) = (1, 2), AB = 3. `equation`: the same as an equation, if both sides
    are expressions."""

    label: str
    value: Value
    equation: Equation | None = None


@dataclass(frozen=True, slots=True)
class Either:
    """The same value written several ways: a = b = c, or a approx b. One of them is enough."""

    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Inequality:
    """Relations that don't come down to a set of reals: pairs (strict, node) for node > 0 or >= 0, kind "and"."""

    relations: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix by rows."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """a : b : c. time: it looks like a time of day (20:34)."""

    terms: tuple[Node, ...]
    time: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day in seconds after midnight; half: "am", "pm", or "" if not said."""

    seconds: int
    half: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """Mathematics that we don't read: only its spelling is compared, then the symbolic stage."""

    spelling: str


Value = (
    Expr
    | Words
    | Choice
    | Items
    | Interval
    | RealSet
    | Equation
    | Labelled
    | Either
    | Inequality
    | Matrix
    | Ratio
    | Clock
    | Opaque
)
