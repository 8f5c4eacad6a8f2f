"""Equality of expressions: exact rationals first, then high-precision values at fixed points.

Two different expressions of the answer language that agree to 50 digits at several unrelated points don't occur in
practice; two equal ones always agree. Values are compared relatively, so 1/2004! is not 1/2006!.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rstar_eval.grading.exact import exact_value
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.numeric import PRECISIONS, Undefined, Unsupported, context, evaluate, sample
from rstar_eval.grading.tree import Node, has, symbols, walk

_SAME = 2.0**-160
_TINY = -150
_WANTED = 2


class Undecided(Exception):
    """Two trees can't be compared by value; `limit` names the cap that stopped it, if one did."""

    def __init__(self, limit: str = "") -> None:
        super().__init__(limit)
        self.limit = limit


@lru_cache(maxsize=8192)
def rational(node: Node) -> Fraction | None:
    """The exact rational value, cached."""
    return exact_value(node)


@lru_cache(maxsize=8192)
def free(node: Node) -> frozenset[str]:
    """The free variables, cached."""
    return symbols(node)


@lru_cache(maxsize=16384)
def _at(node: Node, names: tuple[str, ...], index: int, precision: int, log10: bool) -> Any:
    """The value at sample point `index`; None where the tree has no finite value there."""
    try:
        return evaluate(node, {name: sample(name, index) for name in names}, precision, log10)
    except Undefined:
        return None


def _points(nodes: Sequence[Node]) -> Sequence[int]:
    """The sample points that these trees need.

    Positive ones, and where |x| or sign occurs also mixed signs; whole numbers where rounding or remainders occur.
    """
    names = {str(part.value) for node in nodes for part in walk(node) if part.op == "fn"}
    if names & {"floor", "ceiling", "mod", "gcd", "lcm", "factorial2"}:
        return range(16, 40)
    if names & {"abs", "sign", "max", "min"}:
        return (0, 8, 9, 10, 11, 12, 1, 2)
    return (0, 1, 2, 3, 4, 5)


def _wanted(points: Sequence[int]) -> int:
    return _WANTED if len(points) == 6 else 5 if len(points) == 8 else 14


def near(left: Any, right: Any, relative: float) -> bool:
    """Whether two values differ by at most `relative` times the larger magnitude."""
    return bool(abs(left - right) <= relative * max(abs(left), abs(right)))


def equal(left: Node, right: Node, relative: float = 0.0, log10: bool = False) -> bool:
    """Whether two expressions have the same value everywhere (at the sample points).

    relative: tolerance; 0 means equal as exact expressions. Raises Undecided if one can't be evaluated.
    """
    if left == right:
        return True
    left_value, right_value = rational(left), rational(right)
    if left_value is not None and right_value is not None:
        if left_value == right_value:
            return True
        return relative > 0 and abs(left_value - right_value) <= Fraction(relative) * max(
            abs(left_value), abs(right_value)
        )
    names = tuple(sorted(free(left) | free(right)))
    points = _points((left, right)) if names else (0,)
    wanted = _wanted(points) if names else 1
    agreed = 0
    try:
        for index in points:
            one, other = _at(left, names, index, PRECISIONS[0], log10), _at(right, names, index, PRECISIONS[0], log10)
            if one is None or other is None:
                if (one is None) != (other is None) and not names:
                    return False
                continue
            if not _same(left, right, one, other, (names, index, log10), relative):
                return False
            agreed += 1
            if agreed >= wanted:
                return True
    except LimitExceeded as error:
        raise Undecided(error.limit) from None
    except Unsupported:
        raise Undecided from None
    if agreed:
        return True
    raise Undecided


def _same(
    left: Node, right: Node, one: Any, other: Any, place: tuple[tuple[str, ...], int, bool], relative: float
) -> bool:
    if near(one, other, max(relative, _SAME)):
        return True
    ctx = context(PRECISIONS[0])
    if (
        max(_magnitude(ctx, one), _magnitude(ctx, other)) < _TINY
        or min(_magnitude(ctx, one), _magnitude(ctx, other)) < _TINY
    ):
        zero_one, zero_other = _vanishes(left, one, place), _vanishes(right, other, place)
        if zero_one or zero_other:
            return zero_one and zero_other
    return False


def _magnitude(ctx: Any, value: Any) -> float:
    return float(ctx.mag(value)) if value else float("-inf")


def _vanishes(node: Node, value: Any, place: tuple[tuple[str, ...], int, bool]) -> bool:
    """Whether a tiny value is zero up to rounding: then it shrinks when the precision grows."""
    if not value:
        return True
    ctx = context(PRECISIONS[0])
    if _magnitude(ctx, value) >= _TINY:
        return False
    names, index, log10 = place
    finer = _at(node, names, index, PRECISIONS[1], log10)
    return finer is not None and (not finer or _magnitude(ctx, finer) < _magnitude(ctx, value) - 200)


def proportional(left: Node, right: Node, positive: bool = False) -> bool:
    """Whether left = c * right for one non-zero constant c (positive if asked), neither being zero everywhere.

    For equations written as expressions that are zero. Raises Undecided.
    """
    names = tuple(sorted(free(left) | free(right)))
    ratio: Any = None
    agreed = 0
    try:
        for index in (*_points((left, right)), 6, 7):
            one, other = _at(left, names, index, PRECISIONS[0], False), _at(right, names, index, PRECISIONS[0], False)
            if one is None or other is None:
                continue
            if not one or not other or abs(one) < _SAME or abs(other) < _SAME:
                return False
            quotient = one / other
            if ratio is None:
                ratio = quotient
            elif not near(ratio, quotient, _SAME):
                return False
            agreed += 1
            if agreed >= 3:
                break
    except LimitExceeded as error:
        raise Undecided(error.limit) from None
    except Unsupported:
        raise Undecided from None
    if agreed < 2 and names:
        raise Undecided
    ctx = context(PRECISIONS[0])
    if ratio is None or (ctx.im(ratio) and abs(ctx.im(ratio)) > _SAME * abs(ratio) and positive):
        return False
    return not positive or bool(ctx.re(ratio) > 0)


def real_value(node: Node) -> Any:
    """Return the real value of a tree without variables, as an mpf; None if it isn't one."""
    if free(node) or has(node, "matrix", "pm", "mp"):
        return None
    try:
        value = _at(node, (), 0, PRECISIONS[0], False)
    except (LimitExceeded, Unsupported):
        return None
    if value is None:
        return None
    ctx = context(PRECISIONS[0])
    imaginary = ctx.im(value)
    return ctx.re(value) if not imaginary or abs(imaginary) <= _SAME * abs(value) else None
