"""Caps that hold before and during parsing and evaluation, so that every stage in this process ends soon.

Covered: length, bracket depth, digits of one number, items of one list, size of an exact power, magnitude of a number,
steps of one evaluation. Not covered here: what the symbolic stage does, which runs in killable workers (see `pool`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rstar_eval.errors import UserError


class LimitExceeded(Exception):
    """An input or an intermediate value is over a cap; `limit` names which."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Limits:
    """The caps.

    characters: of a text. flat_sum: of a text that is a plain sum of integers, which is added without parsing.
    tokens: of one expression. depth: nested brackets, after doubled ones are removed. height: of an expression's tree.
    digits: of one number as written.
    separators: commas, semicolons and ampersands. relations: signs like = and < in one text. bits: of an exact integer
    or rational power. magnitude: of a binary exponent, in bits (numbers up to 2**(2**magnitude) are compared). steps:
    node evaluations for one value. terms: of one series.
    """

    characters: int = 20_000
    flat_sum: int = 200_000
    tokens: int = 3_000
    depth: int = 60
    height: int = 150
    digits: int = 4_000
    separators: int = 2_000
    relations: int = 100
    bits: int = 40_000
    magnitude: int = 64
    steps: int = 60_000
    terms: int = 2_000


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far numbers may differ.

    float_digits: a prediction written with at least this many significant digits is read as the printed form of a
      binary float, and `float_relative` is allowed against an exact reference. 14 and 5e-13 by default.
    decimal_relative: relative difference allowed when the reference itself is a decimal. 0 by default: the decimal
      that is asked for must be given.
    """

    float_digits: int = 14
    float_relative: float = 5e-13
    decimal_relative: float = 0.0

    def __post_init__(self) -> None:
        for name in ("float_relative", "decimal_relative"):
            value = getattr(self, name)
            if not 0 <= value < 0.1:
                raise UserError(f"tolerance {name} is {value}", "give a relative difference from 0 up to 0.1")
        if self.float_digits < 6:
            raise UserError(f"tolerance float_digits is {self.float_digits}", "give at least 6 digits")


TOLERANCE = Tolerance()

_LONG_NUMBER = re.compile(rf"\d{{{LIMITS.digits + 1}}}")
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")


def check(text: str) -> None:
    """Raise LimitExceeded if `text` is over a cap on its form. Linear in its length."""
    if len(text) > LIMITS.characters:
        raise LimitExceeded("length")
    if sum(map(text.count, ",;&")) > LIMITS.separators:
        raise LimitExceeded("items")
    if len(text) > LIMITS.digits and _LONG_NUMBER.search(text):
        raise LimitExceeded("digits")
    if len(text) > LIMITS.depth:
        depth = braces = 0  # braces on their own too: another bracket between them, `{)`, closes none
        for char in text:
            if char in _OPEN:
                depth += 1
                braces += char == "{"
                if depth > LIMITS.depth or braces > LIMITS.depth:
                    raise LimitExceeded("nesting")
            elif char in _CLOSE:
                depth = max(0, depth - 1)
                braces = max(0, braces - (char == "}"))


def collapse_brackets(text: str) -> str:
    """Remove doubled round or curly brackets, `((x))` to `(x)`. Linear; does nothing to unbalanced text.

    >>> collapse_brackets("((((7))))+((1)(2))")
    '(7)+((1)(2))'
    """
    if "((" not in text and "{{" not in text:
        return text
    stack: list[int] = []
    partner: dict[int, int] = {}
    for index, char in enumerate(text):
        if char in "({":
            stack.append(index)
        elif char in ")}":
            if not stack or (text[stack[-1]] == "(") != (char == ")"):
                return text
            partner[stack.pop()] = index
    drop: set[int] = set()
    for start, end in partner.items():
        if (
            start + 1 < end
            and text[start + 1] == text[start]
            and partner.get(start + 1) == end - 1
            and not _escaped(text, start)
        ):
            drop.update((start + 1, end - 1))
    return "".join(char for index, char in enumerate(text) if index not in drop)


def _escaped(text: str, index: int) -> bool:
    """Whether one of the two opening brackets is a LaTeX set brace, `\\{`."""
    return index > 0 and text[index - 1] == "\\"
