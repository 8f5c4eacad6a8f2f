"""Exact rational value of a tree, where it has one that is cheap to compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from rstar_eval.grading.limits import LIMITS
from rstar_eval.grading.tree import Node

_FACTORIAL_CAP = 3_000


def exact_value(node: Node) -> Fraction | None:
    """Return the rational value of a tree without variables, or None if it has none, or none within the caps.

    Never rounds: sqrt(9) is 3, sqrt(2) is None, 1/0 is None.
    """
    op = node.op
    if op == "num":
        return node.value if isinstance(node.value, Fraction) else None
    if op in ("sym", "const", "call", "matrix", "deg", "pm", "mp", "series"):
        return None
    values: list[Fraction] = []
    for arg in node.args:
        value = exact_value(arg)
        if value is None or value.numerator.bit_length() + value.denominator.bit_length() > LIMITS.bits:
            return None
        values.append(value)
    if op == "add":
        if all(value.denominator == 1 for value in values):
            return Fraction(sum(value.numerator for value in values))
        return _sum(values) if len(values) < 400 else None
    if op == "mul":
        if sum(value.numerator.bit_length() + value.denominator.bit_length() for value in values) > LIMITS.bits:
            return None
        return math.prod(values, start=Fraction(1))
    if op == "neg":
        return -values[0]
    if op == "div":
        return values[0] / values[1] if values[1] else None
    if op == "pct":
        return values[0] / 100
    if op == "pow":
        return _power(values[0], values[1])
    if op == "root":
        return _power(values[0], 1 / values[1]) if values[1] else None
    return _function(str(node.value), values)


def _sum(values: Sequence[Fraction]) -> Fraction | None:
    """The sum, or None where the common denominator is over the cap: it may grow with every term."""
    total = Fraction(0)
    for value in values:
        total += value
        if total.denominator.bit_length() > LIMITS.bits:
            return None
    return total


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator == 1:
        power = exponent.numerator
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if base in (0, 1, -1):
            if base == 0:
                return None if power <= 0 else Fraction(0)
            return Fraction(1) if base == 1 or power % 2 == 0 else Fraction(-1)
        return base**power if size * abs(power) <= LIMITS.bits else None
    if exponent.denominator > 64 or abs(exponent.numerator) > 64:
        return None
    root = _rational_root(base, exponent.denominator)
    return None if root is None else _power(root, Fraction(exponent.numerator))


def _rational_root(value: Fraction, degree: int) -> Fraction | None:
    if value < 0:
        if degree % 2 == 0:
            return None
        root = _rational_root(-value, degree)
        return None if root is None else -root
    top, bottom = integer_root(value.numerator, degree), integer_root(value.denominator, degree)
    return None if top is None or bottom is None else Fraction(top, bottom)


def integer_root(value: int, degree: int) -> int | None:
    """Return the exact non-negative root of an integer, or None."""
    if degree == 2:
        root = math.isqrt(value)
    elif value.bit_length() < 900:
        root = round(value ** (1 / degree))
        root = next((near for near in (root, root - 1, root + 1) if near**degree == value), root)
    else:
        return None
    return root if root**degree == value else None


def _function(name: str, values: list[Fraction]) -> Fraction | None:
    value = values[0]
    whole = all(item.denominator == 1 for item in values)
    if name == "abs":
        return abs(value)
    if name in ("floor", "ceiling"):
        return Fraction(math.floor(value) if name == "floor" else math.ceil(value))
    if name == "sign":
        return Fraction((value > 0) - (value < 0))
    if name in ("max", "min"):
        return max(values) if name == "max" else min(values)
    if not whole:
        return None
    numbers = [item.numerator for item in values]
    if name == "factorial" and 0 <= numbers[0] <= _FACTORIAL_CAP:
        return Fraction(math.factorial(numbers[0]))
    if name == "factorial2" and 0 <= numbers[0] <= _FACTORIAL_CAP:
        return Fraction(math.prod(range(numbers[0], 0, -2)))
    if (
        name in ("binomial", "permutations")
        and len(numbers) == 2
        and numbers[1] >= 0
        and 0 <= numbers[0] <= _FACTORIAL_CAP
    ):
        return Fraction((math.comb if name == "binomial" else math.perm)(numbers[0], numbers[1]))
    if name == "gcd":
        return Fraction(math.gcd(*numbers))
    if name == "lcm" and sum(item.bit_length() for item in numbers) < LIMITS.bits:
        return Fraction(math.lcm(*numbers))
    if name == "mod" and len(numbers) == 2 and numbers[1]:
        return Fraction(numbers[0] % numbers[1])
    return None
