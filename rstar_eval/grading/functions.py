"""Values of the functions of the answer language at a point, in mpmath contexts of fixed precision.

One set of contexts a thread: mpmath's global context is shared state. Whatever could take long or much memory for a
large argument is refused with LimitExceeded first.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rstar_eval.grading.limits import LIMITS, LimitExceeded

TRIG_BITS = 4_096
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


def rational(point: Point, value: Fraction) -> Any:
    """A rational number in this point's precision."""
    made = point.context.mpf(value.numerator)
    return made if value.denominator == 1 else made / value.denominator


def bits(value: Any, point: Point) -> int:
    """The binary exponent of a value's magnitude."""
    return int(point.context.mag(value)) if value else -(10**9)


def small(value: Any, size: int, point: Point) -> Any:
    """The value itself. Raises LimitExceeded if it has more than `size` bits before the point."""
    if bits(value, point) > size:
        raise LimitExceeded("magnitude")
    return value


def power(base: Any, exponent: Any, exact: Fraction | None, point: Point) -> Any:
    """Return base**exponent; an odd root of a negative real number is the real one."""
    ctx = point.context
    if not base:
        if ctx.re(exponent) > 0:
            return base
        raise Undefined("0 to a power that is not positive")
    small(exponent, LIMITS.magnitude, point)
    size = abs(bits(base, point)) + 1
    if size.bit_length() + max(bits(exponent, point), 0) > LIMITS.magnitude + 2:
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


def call(name: str, values: list[Any], point: Point) -> Any:
    """Return the value of a named function. Raises Unsupported if it has none here."""
    if name in ("log", "ln", "logbase", "lg", "lb"):
        return _logarithm(name, values, point)
    if name in _DIRECT:
        value = small(values[0], TRIG_BITS, point)
        if name in _GROWING:  # with the imaginary part
            small(point.context.im(value), LIMITS.magnitude, point)
        elif name in _HYPERBOLIC:
            small(point.context.re(value), LIMITS.magnitude, point)
        return getattr(point.context, _DIRECT[name])(value)
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
    return point.context.exp(small(values[0], LIMITS.magnitude, point))


def _cis(values: list[Any], point: Point) -> Any:
    value = small(values[0], TRIG_BITS, point)
    small(point.context.im(value), LIMITS.magnitude, point)
    return point.context.expj(value)


def _factorial(values: list[Any], point: Point) -> Any:
    if abs(values[0]) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    return point.context.gamma(values[0] + 1)


def _factorial2(values: list[Any], point: Point) -> Any:
    if abs(values[0]) > _GAMMA_CAP:
        raise LimitExceeded("magnitude")
    if point.context.im(values[0]):  # its formula has a power with an exponent of the size of exp(pi * im)
        raise Unsupported("double factorial of a number that is not real")
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
    top, bottom = (small(value, TRIG_BITS, point) for value in values)
    return top - bottom * point.context.floor(top / bottom)


def _round_down(values: list[Any], point: Point) -> Any:
    """Floor, with values within 2**-200 of an integer taken for it (a root that is whole, say)."""
    value = _real(small(values[0], TRIG_BITS, point), point)
    near = point.context.nint(value)
    return near if abs(value - near) < point.context.ldexp(1, 56 - point.context.prec) else point.context.floor(value)


def _round_up(values: list[Any], point: Point) -> Any:
    return -_round_down([-values[0]], point)


def _whole_function(function: Callable[..., int], values: list[Any], point: Point) -> Any:
    """A function of integers; undefined at a point where an argument is none."""
    reals = [_real(small(value, TRIG_BITS, point), point) for value in values]
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
_GROWING = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])
_HYPERBOLIC = frozenset(["sinh", "cosh", "tanh", "coth", "sech", "csch"])
_SPECIAL: dict[str, Callable[[list[Any], Point], Any]] = {
    "exp": _exp,
    "cis": _cis,
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
