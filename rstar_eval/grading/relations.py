"""Inequalities to sets of reals, and sets of reals in normal order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rstar_eval.grading import tree
from rstar_eval.grading.fingerprint import Undecided, equal, free, rational, real_value
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.scalars import same_node
from rstar_eval.grading.tree import Node, is_infinite
from rstar_eval.grading.values import Inequality, Interval, RealSet

_MOST_PARTS = 150  # pairs of intervals that one intersection compares
_WHOLE_LINE = Interval(tree.MINUS_INFINITY, tree.INFINITY, False, False)
FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}


def solve_chain(sides: Sequence[Node], signs: Sequence[str]) -> RealSet | Inequality | None:
    """Read `a < x <= b` as a set of reals, or, if it has several variables or isn't linear, as relations."""
    names = frozenset().union(*[free(side) for side in sides])
    if len(names) == 1:
        name = next(iter(names))
        halves = [
            _half_line(left, sign, right, name) for left, sign, right in zip(sides, signs, sides[1:], strict=False)
        ]
        if all(halves):
            result = halves[0]
            for half in halves[1:]:
                result = intersect(result, half) if result and half else None
            if result is not None:
                return RealSet(result.parts, name)
    relations = []
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        if is_infinite(left) or is_infinite(right):
            continue
        relations.append(
            (
                ">=" if sign in ("<=", ">=") else ">" if sign in ("<", ">") else "!=",
                tree.sub(right, left) if sign[0] == "<" else tree.sub(left, right),
            )
        )
    return Inequality(tuple(relations)) if relations else None


def _half_line(left: Node, sign: str, right: Node, name: str) -> RealSet | None:
    """Solve a relation that is linear or quadratic in `name`. None if it isn't, or has several variables."""
    if sign == "!=" and tree.has(right, "pm", "mp"):
        either = [_half_line(left, sign, tree.choose_sign(right, choice), name) for choice in (1, -1)]
        return intersect(either[0], either[1]) if either[0] and either[1] else None
    if free(left) and free(right):
        left, right = tree.sub(left, right), tree.ZERO
    if not free(left):
        left, sign, right = right, FLIP[sign], left
    if left.op == "fn" and left.value == "abs" and sign != "!=":
        return _absolute(left.args[0], sign, right, name)
    if left != tree.symbol(name):
        if is_infinite(right):
            return None
        solved = _linear(left, right, name)
        if solved is None:
            return _quadratic(tree.sub(left, right), sign, name)
        right, positive = solved
        sign = sign if positive else FLIP[sign]
    closed = "=" in sign
    if sign == "!=":
        return RealSet(
            (Interval(tree.MINUS_INFINITY, right, False, False), Interval(right, tree.INFINITY, False, False)), name
        )
    if sign[0] == ">":
        return RealSet((Interval(right, tree.INFINITY, closed, False),), name)
    return RealSet((Interval(tree.MINUS_INFINITY, right, False, closed),), name)


def _absolute(inner: Node, sign: str, bound: Node, name: str) -> RealSet | None:
    """Solve |inner| < bound (both sides at once) or |inner| > bound (either side), for a positive bound."""
    value = real_value(bound)
    if value is None or value <= 0:
        return None
    above = _half_line(inner, sign, bound, name)
    below = _half_line(inner, FLIP[sign], tree.neg(bound), name)
    if above is None or below is None:
        return None
    return intersect(above, below) if sign[0] == "<" else RealSet(below.parts + above.parts, name)


def _linear(left: Node, right: Node, name: str) -> tuple[Node, bool] | None:
    """For left = slope*name + offset: return ((right - offset)/slope, slope > 0), or None if it isn't linear."""
    offset = tree.substitute(left, name, tree.ZERO)
    one = tree.substitute(left, name, tree.ONE)
    slope = tree.sub(one, offset)
    try:
        if not equal(left, tree.add(tree.mul(slope, tree.symbol(name)), offset)):
            return None
    except Undecided:
        return None
    value = real_value(slope)
    if value is None or value == 0:
        return None
    return tree.div(tree.sub(right, offset), slope), bool(value > 0)


def _quadratic(node: Node, sign: str, name: str) -> RealSet | None:
    """Solve node < 0 (or >, <=, ...) for a polynomial of degree 2 with real coefficients, or None if it is none."""
    at = [tree.substitute(node, name, tree.number(value)) for value in (0, 1, -1)]
    half = tree.number(Fraction(1, 2))
    square = tree.sub(tree.mul(half, tree.add(at[1], at[2])), at[0])
    slope = tree.mul(half, tree.sub(at[1], at[2]))
    variable = tree.symbol(name)
    try:
        if not equal(node, tree.add(tree.mul(square, variable, variable), tree.mul(slope, variable), at[0])):
            return None
    except Undecided:
        return None
    discriminant = tree.sub(tree.mul(slope, slope), tree.mul(tree.number(4), square, at[0]))
    top, inside = real_value(square), real_value(discriminant)
    if top is None or inside is None or top == 0:
        return None
    if top < 0:
        sign = FLIP[sign]
    closed = "=" in sign and sign != "!="
    if inside < 0:
        return RealSet((_WHOLE_LINE,) if sign[0] in ">!" else (), name)
    root = Node("root", (discriminant, tree.number(2)))
    ends = [
        tree.div(tree.add(tree.neg(slope), part), tree.mul(tree.number(2), square)) for part in (root, tree.neg(root))
    ]
    high, low = ends if top > 0 else ends[::-1]
    inner = Interval(low, high, closed, closed)
    outer = (Interval(tree.MINUS_INFINITY, low, False, closed), Interval(high, tree.INFINITY, closed, False))
    if sign == "!=":
        return RealSet((outer[0], Interval(low, high, False, False), outer[1]), name)
    return RealSet((inner,) if sign[0] == "<" else outer, name)


def position(node: Node) -> Any:
    """The place of an endpoint on the real line (a float infinity, or an mpf), or None if it isn't a real number."""
    sign = is_infinite(node)
    if sign:
        return sign * float("inf")
    exact = rational(node)
    return real_value(node) if exact is None or exact.denominator != 1 else exact.numerator


def _less(left: Node, right: Node) -> int | None:
    """-1, 0, 1 as left <, =, > right; None if that can't be told."""
    one, other = position(left), position(right)
    if one is None or other is None:
        return 0 if left == right else None
    if one in (float("inf"), float("-inf")) or other in (float("inf"), float("-inf")):
        return int(one > other) - int(one < other)
    if abs(one - other) * 2**150 <= max(abs(one), abs(other)):  # no floats here: an integer may be beyond them
        return 0
    return -1 if one < other else 1


def intersect(left: RealSet, right: RealSet) -> RealSet | None:
    """The common part of two sets, or None if ends can't be put in order. LimitExceeded if there are too many parts."""
    if len(left.parts) * len(right.parts) > _MOST_PARTS:
        raise LimitExceeded("items")
    parts = []
    for one in left.parts:
        for other in right.parts:
            low, high = _less(one.low, other.low), _less(one.high, other.high)
            if low is None or high is None:
                if is_infinite(one.low) or is_infinite(other.low) or is_infinite(one.high) or is_infinite(other.high):
                    pass
                else:
                    return None
            if low is None:
                low = -1 if is_infinite(one.low) else 1
            if high is None:
                high = 1 if is_infinite(one.high) else -1
            start, start_closed = (other.low, other.low_closed) if low < 0 else (one.low, one.low_closed)
            end, end_closed = (one.high, one.high_closed) if high < 0 else (other.high, other.high_closed)
            if low == 0:
                start_closed = one.low_closed and other.low_closed
            if high == 0:
                end_closed = one.high_closed and other.high_closed
            order = _less(start, end)
            if order is None or order < 0 or (order == 0 and start_closed and end_closed):
                parts.append(Interval(start, end, start_closed, end_closed))
    return RealSet(tuple(parts), left.variable)


def complement(inner: RealSet) -> RealSet | None:
    """The reals without a set."""
    result = RealSet((_WHOLE_LINE,), inner.variable)
    for part in inner.parts:
        outside = []
        if not is_infinite(part.low):
            outside.append(Interval(tree.MINUS_INFINITY, part.low, False, not part.low_closed))
        if not is_infinite(part.high):
            outside.append(Interval(part.high, tree.INFINITY, not part.high_closed, False))
        cut = intersect(result, RealSet(tuple(outside)))
        if cut is None:
            return None
        result = cut
    return result


def ordered(real_set: RealSet) -> tuple[Interval, ...] | None:
    """The parts in order, touching and overlapping ones joined, empty ones dropped; None if ends have no order."""
    parts = []
    for part in real_set.parts:
        low, high = position(part.low), position(part.high)
        if low is None or high is None:
            return None
        if low < high or (low == high and part.low_closed and part.high_closed):
            parts.append((low, not part.low_closed, part, high))
    parts.sort(key=lambda item: (item[0], item[1]))
    joined: list[Interval] = []
    for _, _, part, _ in parts:
        if joined:
            last = joined[-1]
            touch = _less(last.high, part.low)
            if touch == 1 or (touch == 0 and (last.high_closed or part.low_closed)):
                reach = _less(last.high, part.high)
                closed = (
                    part.high_closed
                    if reach == -1
                    else last.high_closed
                    if reach == 1
                    else last.high_closed or part.high_closed
                )
                joined[-1] = Interval(last.low, part.high if reach == -1 else last.high, last.low_closed, closed)
                continue
        joined.append(part)
    return tuple(joined)


def same_set(left: RealSet, right: RealSet) -> bool:
    """Whether two sets of reals are equal. Raises Undecided."""
    one, other = ordered(left), ordered(right)
    if one is None or other is None:
        one, other = left.parts, right.parts
    if len(one) != len(other):
        return False
    return all(_same_interval(a, b) for a, b in zip(one, other, strict=True))


def _same_interval(left: Interval, right: Interval) -> bool:
    if (left.low_closed, left.high_closed) != (right.low_closed, right.high_closed):
        return False
    return _same_end(left.low, right.low) and _same_end(left.high, right.high)


def _same_end(left: Node, right: Node) -> bool:
    one, other = is_infinite(left), is_infinite(right)
    return one == other if one or other else same_node(left, right)
