"""Equality of expressions: exact rationals first, then high-precision values at fixed points.

Two different expressions of the answer language that agree to 50 digits at several unrelated points don't occur in
practice; two equal ones always agree. Values are compared relatively, so 1/2004! is not 1/2006!.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from rstar_eval.grading.exact import exact_value
from rstar_eval.grading.functions import Undefined, Unsupported, context
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.numeric import PRECISIONS, TINY, WHOLE, evaluate, sample
from rstar_eval.grading.tree import Node, has, is_infinite, symbols, walk

_GUARD = 96
_SLOW = frozenset(["factorial", "factorial2", "gamma", "binomial", "permutations"])
_WORK = {256: 10**9, 1_024: 600, 4_096: 60, 10_240: 30}  # function evaluations that a precision allows
_WANTED = 2
_LOGARITHMS = frozenset(["ln", "log", "logbase", "lg", "lb", "arcsin", "arccos", "arctan"])


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


@lru_cache(maxsize=2048)
def _at(node: Node, names: tuple[str, ...], index: int, precision: int, log10: bool) -> Any:
    """The value at sample point `index`; None where the tree has no finite value there."""
    try:
        return evaluate(node, {name: sample(name, index) for name in names}, precision, log10)
    except Undefined:
        return None


def _points(nodes: Sequence[Node], variables: int = 1) -> Sequence[int]:
    """The sample points that these trees need.

    Positive ones, larger ones too where a root or a logarithm may hide a change of sign; where |x| or sign occurs also
    mixed signs; whole numbers where rounding, remainders, or sums up to a variable occur; small ones for endless sums,
    where power series converge fast.
    """
    parts = [part for node in nodes for part in walk(node)]
    names = {str(part.value) for part in parts if part.op == "fn"}
    if any(part.op == "series" and is_infinite(part.args[2]) for part in parts):
        return range(TINY, TINY + 6)
    if names & {"floor", "ceiling", "mod", "gcd", "lcm", "factorial2"} or any(part.op == "series" for part in parts):
        return range(WHOLE + 1, WHOLE + 51) if variables == 1 else range(16, 46)
    if names & {"abs", "sign", "max", "min"}:
        return (0, 8, 9, 10, 11, 12, 13, 14, 1, 2)
    if any(_may_branch(part) for part in parts):
        return (0, 1, 2, 3, 4, 5, 6)
    return (0, 1, 2, 3, 4, 5)


def _may_branch(node: Node) -> bool:
    """Whether a node is a root or a logarithm of a sum with variables: sqrt((x - 3)^2) is x - 3 only from 3 on."""
    if node.op == "pow":
        exponent = node.args[1]
        if exponent.op == "num" and isinstance(exponent.value, Fraction) and exponent.value.denominator == 1:
            return False
    elif node.op != "root" and not (node.op == "fn" and node.value in _LOGARITHMS):
        return False
    return any(part.op == "add" for part in walk(node.args[0])) and bool(free(node.args[0]))


def _wanted(points: Sequence[int]) -> int:
    return {6: _WANTED, 7: 4, 10: 8, 30: 20}.get(len(points), 40)


def precision_for(*nodes: Node) -> int:
    """The bits to work with: more where exact numbers inside are long, so that 2^2019 - 1 isn't 2^2019.

    Less where functions make that slow: an evaluation at these bits takes some tenths of a second at most.
    """
    parts = [part for node in nodes for part in walk(node)]
    longest = max(map(_bits, parts), default=0)
    wanted = next((bits for bits in PRECISIONS[:-1] if 2 * longest + 128 <= bits), PRECISIONS[-2])
    if wanted == PRECISIONS[0]:
        return wanted
    functions = sum(part.op in ("fn", "call", "root", "pow") and rational(part) is None for part in parts)
    if any(part.op == "fn" and part.value in _SLOW and rational(part) is None for part in parts):
        return PRECISIONS[0]
    work = functions * _wanted(_points(nodes))
    return next((bits for bits in reversed(PRECISIONS[:-1]) if bits <= wanted and work <= _WORK[bits]), PRECISIONS[0])


def _bits(node: Node) -> int:
    """The length of the exact number that a node is, or of a power's."""
    if node.op == "num" and isinstance(node.value, Fraction):
        return max(node.value.numerator.bit_length(), node.value.denominator.bit_length())
    if node.op == "pow" and node.args[1].op == "num":
        value = rational(node)
        return 0 if value is None else max(value.numerator.bit_length(), value.denominator.bit_length())
    return 0


def same_at(precision: int) -> Any:
    """The relative difference up to which two values at a precision are the same."""
    return context(precision).ldexp(1, _GUARD - precision)


def near(left: Any, right: Any, relative: Any) -> bool:
    """Whether two values differ by at most `relative` times the larger magnitude."""
    return bool(abs(left - right) <= relative * max(abs(left), abs(right)))


class Place(NamedTuple):
    """Where two trees are evaluated: the variables, the sample point, the bits, and the base of a plain logarithm."""

    names: tuple[str, ...]
    point: int
    precision: int
    log10: bool = False


def equal(left: Node, right: Node, relative: float = 0.0, log10: bool = False) -> bool:
    """Whether two expressions have the same value everywhere (at the sample points).

    relative: tolerance; 0 means equal as exact expressions. Raises Undecided if one can't be evaluated.
    """
    if left == right:
        return True
    if is_infinite(left) or is_infinite(right):
        return is_infinite(left) == is_infinite(right)
    one, other = rational(left), rational(right)
    if one is not None and other is not None:
        return one == other or (relative > 0 and abs(one - other) <= Fraction(relative) * max(abs(one), abs(other)))
    names = tuple(sorted(free(left) | free(right)))
    points = _points((left, right), len(names)) if names else (0,)
    wanted = _wanted(points) if names else 1
    precision = precision_for(left, right)
    agreed = 0
    try:
        for index in points:
            same = _same(left, right, Place(names, index, precision, log10), relative)
            if same is False:
                return False
            agreed += bool(same)
            if agreed >= wanted:
                return True
    except LimitExceeded as error:
        raise Undecided(error.limit) from None
    except Unsupported:
        raise Undecided from None
    if agreed:
        return True
    raise Undecided


def _same(left: Node, right: Node, place: Place, relative: float) -> bool | None:
    """Whether both have the same value at a place; None if one or both have none there."""
    one, other = _at(left, *place), _at(right, *place)
    if one is None or other is None:
        return False if (one is None) != (other is None) and not place.names else None
    if near(one, other, max(same_at(place.precision), relative)):
        return True
    zero_one, zero_other = _vanishes(left, one, place), _vanishes(right, other, place)
    return zero_one and zero_other


def _vanishes(node: Node, value: Any, place: Place) -> bool:
    """Whether a tiny value is zero up to rounding: then it shrinks when the precision grows."""
    if not value:
        return True
    magnitude = context(place.precision).mag(value)
    if magnitude >= _GUARD - place.precision:
        return False
    more = PRECISIONS[PRECISIONS.index(place.precision) + 1]
    finer = _at(node, *place._replace(precision=more))
    return finer is not None and (not finer or context(more).mag(finer) < magnitude - _GUARD)


def proportional(left: Node, right: Node, positive: bool = False) -> bool:
    """Whether left = c * right for one non-zero constant c (positive if asked), neither being zero everywhere.

    For equations written as expressions that are zero. Without variables: whether left = right. Raises Undecided.
    """
    names = tuple(sorted(free(left) | free(right)))
    if not names:
        return equal(left, right)
    precision = precision_for(left, right)
    try:
        wanted = max(3, _wanted(_points((left, right), len(names))))
        ratios = list(islice(_ratios(left, right, names, precision), wanted))
    except LimitExceeded as error:
        raise Undecided(error.limit) from None
    except Unsupported:
        raise Undecided from None
    if None in ratios:
        return False
    if len(ratios) < 2:
        raise Undecided
    tolerance = same_at(precision)
    if not all(near(ratios[0], ratio, tolerance) for ratio in ratios[1:]):
        return False
    ctx = context(precision)
    real = abs(ctx.im(ratios[0])) <= tolerance * abs(ratios[0])
    return not positive or bool(real and ctx.re(ratios[0]) > 0)


def _ratios(left: Node, right: Node, names: tuple[str, ...], precision: int) -> Iterator[Any]:
    """left / right at the sample points where both have a value; None where one of them is zero."""
    tiny = same_at(precision)
    for index in (*_points((left, right), len(names)), 6, 7):
        one, other = _at(left, names, index, precision, False), _at(right, names, index, precision, False)
        if one is not None and other is not None:
            yield None if abs(one) < tiny or abs(other) < tiny else one / other


def real_value(node: Node) -> Any:
    """Return the real value of a tree without variables, as an mpf; None if it isn't one."""
    if free(node) or has(node, "matrix", "pm", "mp"):
        return None
    precision = precision_for(node)
    try:
        value = _at(node, (), 0, precision, False)
    except (LimitExceeded, Unsupported):
        return None
    if value is None:
        return None
    ctx = context(precision)
    return ctx.re(value) if abs(ctx.im(value)) <= same_at(precision) * abs(value) else None
