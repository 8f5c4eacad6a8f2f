"""High-precision value of a tree at a point: the fingerprint of an expression.

Works with mpmath contexts of fixed precision, one set a thread (mpmath's global context is shared state). Every
operation
that could take long or much memory for a large argument is refused with LimitExceeded first.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from rstar_eval.grading.exact import exact_value
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.tree import Node, is_infinite

PRECISIONS = (256, 1_024, 4_096, 10_240, 20_480)
WHOLE = 100
_REACH = {2: 8, 3: 8, 12: 8, 13: 8, 4: 60, 14: 60}
_TRIG_BITS = 4_096
_GAMMA_CAP = 10**9
_local = threading.local()


class Undefined(Exception):
    """The tree has no finite value here: a division by zero, a pole, infinity, not-a-number."""


class Unsupported(Exception):
    """The tree has a part that can't be evaluated (an infinite sum, a matrix)."""


class Point:
    """A thread's evaluator at one precision: values of the variables, and a budget of steps."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.values: dict[str, Any] = {}
        self.steps = 0
        self.log10 = False


def context(precision: int) -> Any:
    """Return this thread's mpmath context of that many bits."""
    contexts = getattr(_local, "contexts", None)
    if contexts is None:
        contexts = _local.contexts = {}
    if precision not in contexts:
        from mpmath.ctx_mp import MPContext

        made = MPContext()
        made.prec = precision
        contexts[precision] = made
    return contexts[precision]


def sample(name: str, index: int) -> Fraction:
    """Return the value of variable `name` at point `index`: fixed by both, between 0.4 and 2.9, hardly ever special.

    Some points reach eight or sixty times as far, so that |x - 3| isn't 3 - x. From point 8 on signs are mixed; from
    point 16 on values are integers from 1 to 40 (for floors and parities); after point WHOLE they are 1, 2, 3, ... for
    every variable.
    """
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
    point.values = {name: _rational(point, value) for name, value in values.items()}
    try:
        value = _value(node, point)
    except (ZeroDivisionError, ValueError) as error:
        raise Undefined(str(error)) from None
    except OverflowError:
        raise LimitExceeded("magnitude") from None
    if not point.context.isfinite(value):
        raise Undefined("not finite")
    return value


def _rational(point: Point, value: Fraction) -> Any:
    made = point.context.mpf(value.numerator)
    return made if value.denominator == 1 else made / value.denominator


def _value(node: Node, point: Point) -> Any:
    point.steps += 1
    if point.steps > LIMITS.steps:
        raise LimitExceeded("steps")
    op = node.op
    if op == "num":
        assert isinstance(node.value, Fraction)
        return _rational(point, node.value)
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
    first, last = _bound(first_node, point), _bound(last_node, point)
    if last - first > LIMITS.terms:
        raise LimitExceeded("terms")
    total = point.context.mpf(0 if node.value == "sum" else 1)
    held = point.values.get(str(variable.value))
    for index in range(first, last + 1):
        point.values[str(variable.value)] = point.context.mpf(index)
        term = _value(body, point)
        total = total + term if node.value == "sum" else total * term
    if held is not None:
        point.values[str(variable.value)] = held
    return total


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


def _bits(value: Any, point: Point) -> int:
    """The binary exponent of a value's magnitude."""
    return int(point.context.mag(value)) if value else -(10**9)


def _small(value: Any, bits: int, point: Point) -> Any:
    if _bits(value, point) > bits:
        raise LimitExceeded("magnitude")
    return value


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


def power(base: Any, exponent: Any, exact: Fraction | None, point: Point) -> Any:
    """Return base**exponent; an odd root of a negative real number is the real one."""
    ctx = point.context
    if not base:
        if ctx.re(exponent) > 0:
            return base
        raise Undefined("0 to a power that is not positive")
    _small(exponent, LIMITS.magnitude, point)
    size = abs(_bits(base, point)) + 1
    if size.bit_length() + max(_bits(exponent, point), 0) > LIMITS.magnitude + 2:
        raise LimitExceeded("magnitude")
    if (
        exact is not None
        and exact.denominator % 2 == 1
        and exact.denominator > 1
        and ctx.im(base) == 0
        and ctx.re(base) < 0
    ):
        value = ctx.power(-ctx.re(base), exponent)
        return -value if exact.numerator % 2 else value
    return ctx.power(base, exponent)


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
    total = _rational(point, sample(f"call {node.value}", 0))
    for place, value in enumerate(values):
        total += point.context.sin(_small(value, _TRIG_BITS, point) * 3 + place) * _rational(
            point, sample(f"call {node.value}", place + 1)
        )
    return total


def _function(node: Node, values: list[Any], point: Point) -> Any:
    name = str(node.value)
    if name in ("log", "ln", "logbase", "lg", "lb"):
        return _logarithm(name, values, point)
    if name in _DIRECT:
        return getattr(point.context, _DIRECT[name])(_small(values[0], _TRIG_BITS, point))
    if name not in _SPECIAL:
        raise Unsupported(name)
    return _SPECIAL[name](values, point)


def _logarithm(name: str, values: list[Any], point: Point) -> Any:
    ctx = point.context
    if not values[0]:
        raise Undefined("logarithm of 0")
    value = ctx.ln(values[0])
    if name == "logbase":
        return value / ctx.ln(values[1])
    if name == "lg" or (name == "log" and point.log10):
        return value / ctx.ln(10)
    return value / ctx.ln(2) if name == "lb" else value


def _exp(values: list[Any], point: Point) -> Any:
    return point.context.exp(_small(values[0], LIMITS.magnitude, point))


def _factorial(values: list[Any], point: Point) -> Any:
    if abs(values[0]) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    return point.context.gamma(values[0] + 1)


def _factorial2(values: list[Any], point: Point) -> Any:
    if abs(values[0]) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    return point.context.fac2(values[0])


def _binomial(values: list[Any], point: Point) -> Any:
    top, bottom = values
    if max(abs(top), abs(bottom)) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    gamma = point.context.gamma
    return gamma(top + 1) / (gamma(bottom + 1) * gamma(top - bottom + 1))


def _permutations(values: list[Any], point: Point) -> Any:
    if max(abs(value) for value in values) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    return point.context.gamma(values[0] + 1) / point.context.gamma(values[0] - values[1] + 1)


def _mod(values: list[Any], point: Point) -> Any:
    top, bottom = (_small(value, _TRIG_BITS, point) for value in values)
    return top - bottom * point.context.floor(top / bottom)


def _round_down(values: list[Any], point: Point) -> Any:
    """Floor, with values within 2**-200 of an integer taken for it (a root that is whole, say)."""
    value = _real(_small(values[0], _TRIG_BITS, point), point)
    near = point.context.nint(value)
    return near if abs(value - near) < point.context.ldexp(1, 56 - point.context.prec) else point.context.floor(value)


def _round_up(values: list[Any], point: Point) -> Any:
    return -_round_down([-values[0]], point)


def _whole_function(function: Callable[..., int], values: list[Any], point: Point) -> Any:
    """A function of integers; undefined at a point where an argument is none."""
    reals = [_real(_small(value, _TRIG_BITS, point), point) for value in values]
    if any(value != point.context.nint(value) for value in reals):
        raise Undefined("a function of integers at another number")
    return point.context.mpf(function(*map(int, reals)))


def _real(value: Any, point: Point) -> Any:
    if point.context.im(value):
        raise Undefined("a real function of a complex number")
    return point.context.re(value)


def _extreme(values: list[Any], point: Point, largest: bool) -> Any:
    reals = [_real(value, point) for value in values]
    return max(reals) if largest else min(reals)


_DIRECT = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "arcsin": "asin", "arccos":
    "acos",
    "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc", "sinh": "sinh", "cosh": "cosh", "tanh":
    "tanh", "coth": "coth",
    "sech": "sech", "csch": "csch", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "re": "re", "im": "im",
    "conjugate": "conj",
}  # fmt: skip
_HYPERBOLIC = ("sinh", "cosh", "tanh", "coth", "sech", "csch")
_SPECIAL: dict[str, Callable[[list[Any], Point], Any]] = {
    "exp": _exp,
    "cis": lambda values, point: point.context.expj(_small(values[0], _TRIG_BITS, point)),
    "abs": lambda values, point: abs(values[0]),
    "sqrt": lambda values, point: point.context.sqrt(values[0]),
    "cbrt": lambda values, point: power(values[0], point.context.mpf(1) / 3, Fraction(1, 3), point),
    "factorial": _factorial,
    "factorial2": _factorial2,
    "gamma": lambda values, point: _factorial([values[0] - 1], point),
    "binomial": _binomial,
    "permutations": _permutations,
    "mod": _mod,
    "floor": _round_down,
    "ceiling": _round_up,
    "gcd": lambda values, point: _whole_function(math.gcd, values, point),
    "lcm": lambda values, point: _whole_function(math.lcm, values, point),
    "sign": lambda values, point: point.context.sign(_real(values[0], point)),
    "max": lambda values, point: _extreme(values, point, True),
    "min": lambda values, point: _extreme(values, point, False),
    "atan2": lambda values, point: point.context.atan2(_real(values[0], point), _real(values[1], point)),
}
_OPERATIONS: dict[str, Callable[[Node, list[Any], Point], Any]] = {
    "add": _add,
    "mul": _mul,
    "neg": lambda node, values, point: -values[0],
    "div": lambda node, values, point: values[0] / values[1],
    "pow": _pow,
    "root": _root,
    "fn": _function,
    "call": _call,
    "deg": lambda node, values, point: values[0] * point.context.pi / 180,
    "pct": lambda node, values, point: values[0] / 100,
}
