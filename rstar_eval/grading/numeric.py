"""High-precision value of a tree at a point: the fingerprint of an expression.

The functions themselves are in `functions`. Every operation that could take long or much memory for a large argument
is refused with LimitExceeded first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from rstar_eval.grading.exact import exact_value
from rstar_eval.grading.functions import (
    TRIG_BITS,
    Point,
    Undefined,
    Unsupported,
    call,
    context,
    power,
    rational,
    small,
)
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.tree import Node, is_infinite

PRECISIONS = (256, 1_024, 4_096, 10_240, 20_480)
WHOLE = 100
TINY = 1_000
_MOST_TERMS = 400  # of an endless sum
_SETTLED = 12  # terms in a row that change nothing more
_REACH = {2: 8, 3: 8, 12: 8, 13: 8, 4: 60, 14: 60}


def sample(name: str, index: int) -> Fraction:
    """Return the value of variable `name` at point `index`: fixed by both, between 0.4 and 2.9, hardly ever special.

    Some points reach eight or sixty times as far, so that |x - 3| isn't 3 - x. From point 8 on signs are mixed; from
    point 16 on values are integers from 1 to 40 (for floors and parities); after point WHOLE they are 1, 2, 3, ... for
    every variable; from point TINY on they are between 0.01 and 0.03.
    """
    if index >= TINY:
        return (sample(name, index - TINY) + 1) / 130
    if index > WHOLE:
        return Fraction(index - WHOLE)
    digest = hashlib.blake2b(f"{name}\x1f{index}".encode(), digest_size=8).digest()
    raw = int.from_bytes(digest, "big")
    if index >= 16:
        return Fraction(raw % 40 + 1)
    value = (Fraction(4, 10) + Fraction(raw, 2**64) * Fraction(5, 2)) * _REACH.get(index, 1)
    return -value if index >= 8 and raw & 1 else value


def evaluate(node: Node, values: Mapping[str, Fraction], precision: int = PRECISIONS[0], log10: bool = False) -> Any:
    """Return the mpf or mpc value of a tree with its variables at `values`.

    log10: read a logarithm without a base as decadic instead of natural.

    Raises Undefined, Unsupported, or LimitExceeded (too large, too many steps).
    """
    point = Point(context(precision))
    point.log10 = log10
    point.values = {name: rational(point, value) for name, value in values.items()}
    try:
        value = _value(node, point)
    except (ZeroDivisionError, ValueError) as error:
        raise Undefined(str(error)) from None
    except OverflowError:
        raise LimitExceeded("magnitude") from None
    if not point.context.isfinite(value):
        raise Undefined("not finite")
    return value


def _value(node: Node, point: Point) -> Any:
    point.steps += 1
    if point.steps > LIMITS.steps:
        raise LimitExceeded("steps")
    op = node.op
    if op == "num":
        assert isinstance(node.value, Fraction)
        return rational(point, node.value)
    if op == "sym":
        return point.values[str(node.value)]
    if op == "const":
        return _constant(str(node.value), point)
    if op == "series":
        return _series(node, point)
    if op not in _OPERATIONS:
        raise Unsupported(op)
    if op == "pow" and node.args[1].op == "num" and node.args[1].value == 2:
        base = _value(node.args[0], point)
        return base * base
    values = [_value(arg, point) for arg in node.args]
    return _OPERATIONS[op](node, values, point)


def _constant(name: str, point: Point) -> Any:
    if name == "pi":
        return +point.context.pi
    if name == "e":
        return +point.context.e
    if name == "i":
        return point.context.mpc(0, 1)
    raise Undefined(name)


def _series(node: Node, point: Point) -> Any:
    variable, first_node, last_node, body = node.args
    first = _bound(first_node, point)
    if is_infinite(last_node) > 0 and node.value == "sum":
        return _endless(str(variable.value), first, body, point)
    last = _bound(last_node, point)
    if last - first > LIMITS.terms:
        raise LimitExceeded("terms")
    total = point.context.mpf(0 if node.value == "sum" else 1)
    held = point.values.get(str(variable.value))
    for index in range(first, last + 1):
        point.values[str(variable.value)] = point.context.mpf(index)
        term = _value(body, point)
        total = total + term if node.value == "sum" else total * term
    _restore(str(variable.value), held, point)
    return total


def _endless(variable: str, first: int, body: Node, point: Point) -> Any:
    """The sum of body from `first` on, if its terms vanish within a few hundred. Raises Unsupported if they don't."""
    ctx = point.context
    held = point.values.get(variable)
    total, settled = ctx.mpf(0), 0
    for index in range(first, first + _MOST_TERMS):
        point.values[variable] = ctx.mpf(index)
        term = _value(body, point)
        total += term
        settled = settled + 1 if abs(term) <= ctx.ldexp(abs(total), -ctx.prec) else 0
        if settled == _SETTLED:
            break
    _restore(variable, held, point)
    if settled < _SETTLED:
        raise Unsupported("a series that converges slowly or not at all")
    return total


def _restore(variable: str, held: Any, point: Point) -> None:
    """Give a series' variable the value again that the name has outside; none if it has none."""
    if held is None:
        point.values.pop(variable, None)
    else:
        point.values[variable] = held


def _bound(node: Node, point: Point) -> int:
    """The whole number that a bound of a series is at this point."""
    exact = exact_value(node)
    if exact is None:
        if is_infinite(node):
            raise Unsupported("an infinite series")
        value = _value(node, point)
        if point.context.im(value) or value != point.context.nint(value) or abs(value) > LIMITS.terms:
            raise Undefined("a bound that isn't a whole number here")
        return int(value)
    if exact.denominator != 1:
        raise Undefined("a bound that isn't a whole number")
    return exact.numerator


def _add(node: Node, values: list[Any], point: Point) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _mul(node: Node, values: list[Any], point: Point) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


def _pow(node: Node, values: list[Any], point: Point) -> Any:
    base, exponent = values
    exact = exact_value(node.args[1]) if not node.args[1].args or node.args[1].op in ("div", "neg") else None
    return power(base, exponent, exact, point)


def _root(node: Node, values: list[Any], point: Point) -> Any:
    base, index = values
    if not base:
        return base
    if node.args[1].value == 2:
        return point.context.sqrt(base)
    exact = exact_value(node.args[1])
    return power(base, 1 / index, 1 / exact if exact else None, point)


def _call(node: Node, values: list[Any], point: Point) -> Any:
    """An unknown function: a fixed smooth function of its argument, so that equal arguments give equal values."""
    total = rational(point, sample(f"call {node.value}", 0))
    for place, value in enumerate(values):
        total += point.context.sin(small(value, TRIG_BITS, point) * 3 + place) * rational(
            point, sample(f"call {node.value}", place + 1)
        )
    return total


_OPERATIONS: dict[str, Callable[[Node, list[Any], Point], Any]] = {
    "add": _add,
    "mul": _mul,
    "neg": lambda node, values, point: -values[0],
    "div": lambda node, values, point: values[0] / values[1],
    "pow": _pow,
    "root": _root,
    "fn": lambda node, values, point: call(str(node.value), values, point),
    "call": _call,
    "deg": lambda node, values, point: values[0] * point.context.pi / 180,
    "pct": lambda node, values, point: values[0] / 100,
}
