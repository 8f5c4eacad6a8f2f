"""The family `college`: algebra and calculus of polynomials. Plans are sympy code; answers come from exact fractions
here and are what the plans print (a test runs them).

A problem begins with a polynomial f, makes other functions of it (g, h) in up to two operations, and asks for a number.
Traps: the slope taken for the value, an average taken from the ends, a shift the wrong way, the place of the smallest
value for the value itself.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from random import Random

from rstar_eval.tasks.mini.items import MiniItem
from rstar_eval.tasks.mini.operations import Operation, assemble, pick
from rstar_eval.tasks.mini.relations import Tier
from rstar_eval.tasks.mini.splits import Split, belongs

Polynomial = tuple[Fraction, ...]
"""Coefficients, the constant first, the last not 0 (the zero polynomial has none)."""
Map = Callable[[Polynomial], Polynomial]
Number = Callable[[Polynomial], Fraction]
WEIGHTS: dict[Tier, float] = {"plain": 0.2, "A": 0.35, "B": 0.25, "C": 0.2}
"""Weights of the tiers among operations and among questions: a design choice."""


def attempt(rng: Random, split: Split) -> MiniItem | None:
    """Return one problem of `split`, or None where the draw led nowhere."""
    operations = [_start(rng, split)]
    for name, new in zip("fg", "gh", strict=True):
        if rng.random() < 0.5:
            break
        operations.append(pick(rng, WEIGHTS, _operations(rng, name, new)))
    last = "fgh"[len(operations) - 1]
    operations.append(pick(rng, WEIGHTS, _questions(rng, last)))
    if len({one.name for one in operations}) < len(operations):
        return None
    return assemble("college", operations)


def _start(rng: Random, split: Split) -> Operation:
    while True:
        degree = rng.choice((1, 2, 2, 2, 3))
        numbers = [rng.randint(1, 30), *(rng.randint(2, 9) for _ in range(degree))]
        signs = [rng.choice((1, -1)) for _ in range(degree)] + [1]
        if degree == 2 and rng.random() < 0.4:  # lowest at a whole number: else hardly one smallest value is whole
            numbers[2] = rng.randint(2, 4)
            numbers[1] = 2 * numbers[2] * rng.randint(1, 9 // (2 * numbers[2]))
        text, code = "", ""
        for power in range(degree, -1, -1):
            between = "" if power == degree else " + " if signs[power] > 0 else " - "
            text += f"{between}{numbers[power]}{('', 'x')[power > 0]}{f'^{power}' if power > 1 else ''}"
            code += f"{between}{numbers[power]}{('', '*x')[power > 0]}{f'**{power}' if power > 1 else ''}"
        sentence = f"Let f(x) = {text}."
        if belongs(sentence, split):
            break
    coefficients = tuple(Fraction(sign * number) for sign, number in zip(signs, numbers, strict=True))
    return Operation(
        "polynomial", "plain", sentence, "Write f.", "f",
        f"import sympy\nx = sympy.Symbol('x')\nf = {code}", lambda _: coefficients,
    )  # fmt: skip


def _operations(rng: Random, f: str, g: str) -> list[Operation]:
    """Return operations that make the function `g` of the function `f`."""
    k, m = rng.randint(2, 9), rng.randint(2, 5)

    def make(
        name: str, tier: Tier, of: str, right: str, apply: Map, wrong: str | None = None, mis: Map | None = None
    ) -> Operation:
        wrong = None if wrong is None else f"{g} = {wrong}"
        return Operation(name, tier, f"Let {g} be {of}.", f"Find {g}.", g, f"{g} = {right}", apply, wrong, mis)

    return [
        make("derivative", "plain", f"the derivative of {f}", f"sympy.diff({f}, x)", _derived),
        make(
            "times", "plain", f"{f} times (x + {k})", f"{f} * (x + {k})",
            lambda p: _product(p, (Fraction(k), Fraction(1))),
        ),
        make("plus", "plain", f"{f} plus {k}x", f"{f} + {k}*x", lambda p: _sum(p, (Fraction(0), Fraction(k)))),
        make("multiple", "plain", f"{k} times {f}", f"{k} * {f}", lambda p: _product(p, (Fraction(k),))),
        make(
            "antiderivative", "A", f"the antiderivative of {f} that is {k} at x = 0", f"sympy.integrate({f}, x) + {k}",
            lambda p: _sum(_integrated(p), (Fraction(k),)), f"sympy.integrate({f}, x)", _integrated,
        ),
        make(
            "mirror", "A", f"{f} mirrored in the y-axis", f"{f}.subs(x, -x)", lambda p: _composed(p, 0, -1),
            f"-{f}", lambda p: _product(p, (Fraction(-1),)),
        ),
        make(
            "second_derivative", "B", f"the second derivative of {f}", f"sympy.diff({f}, x, 2)",
            lambda p: _derived(_derived(p)), f"sympy.diff({f}, x)", _derived,
        ),
        make(
            "shift", "C", f"{f} moved {m} to the right", f"{f}.subs(x, x - {m})", lambda p: _composed(p, -m, 1),
            f"{f}.subs(x, x + {m})", lambda p: _composed(p, m, 1),
        ),
    ]  # fmt: skip


def _questions(rng: Random, g: str) -> list[Operation]:
    a = rng.randint(0, 5)
    b = a + rng.randint(1, 4)
    at, first, last = (f"{g}.subs(x, {place})" for place in (a, a, b))
    area = f"sympy.integrate({g}, (x, {a}, {b}))"
    place = f"sympy.solve(sympy.diff({g}, x), x)[0]"

    def ask(
        name: str, tier: Tier, text: str, right: str, apply: Number, wrong: str | None = None, mis: Number | None = None
    ) -> Operation:
        wrong = None if wrong is None else f"answer = {wrong}"
        return Operation(
            name, tier, f"What is {text}?", "Find the answer.", "answer", f"answer = {right}", apply, wrong, mis
        )

    return [
        ask("value", "plain", f"{g}({a})", at, lambda p: _at(p, a)),
        ask("integral", "plain", f"the integral of {g} from {a} to {b}", area, lambda p: _area(p, a, b)),
        ask(
            "slope", "A", f"the slope of {g} at x = {a}", f"sympy.diff({g}, x).subs(x, {a})",
            lambda p: _at(_derived(p), a), at, lambda p: _at(p, a),
        ),
        ask(
            "growth", "A", f"the growth of {g} from x = {a} to x = {b}", f"{last} - {first}",
            lambda p: _at(p, b) - _at(p, a), last, lambda p: _at(p, b),
        ),
        ask(
            "mean_slope", "B", f"the mean slope of {g} from x = {a} to x = {b}", f"({last} - {first}) / ({b} - {a})",
            lambda p: (_at(p, b) - _at(p, a)) / (b - a), f"sympy.diff({g}, x).subs(x, {b})",
            lambda p: _at(_derived(p), b),
        ),
        ask(
            "average", "B", f"the average value of {g} from x = {a} to x = {b}", f"{area} / ({b} - {a})",
            lambda p: _area(p, a, b) / (b - a), f"({first} + {last}) / 2", lambda p: (_at(p, a) + _at(p, b)) / 2,
        ),
        ask(
            "smallest", "C", f"the smallest value of {g}", f"{g}.subs(x, {place})", lambda p: _at(p, _lowest(p)),
            place, _lowest,
        ),
        ask(
            "remainder", "C", f"the remainder of {g} divided by x + {b}", f"{g}.subs(x, -{b})", lambda p: _at(p, -b),
            last, lambda p: _at(p, b),
        ),
    ]  # fmt: skip


def _at(p: Polynomial, x: Fraction | int) -> Fraction:
    value = Fraction(0)
    for coefficient in reversed(p):
        value = value * x + coefficient
    return value


def _trimmed(p: Polynomial) -> Polynomial:
    while p and not p[-1]:
        p = p[:-1]
    return p


def _sum(p: Polynomial, q: Polynomial) -> Polynomial:
    longest = max(len(p), len(q))
    zero = Fraction(0)
    both = zip((*p, *[zero] * (longest - len(p))), (*q, *[zero] * (longest - len(q))), strict=True)
    return _trimmed(tuple(a + b for a, b in both))


def _product(p: Polynomial, q: Polynomial) -> Polynomial:
    found = [Fraction(0)] * max(len(p) + len(q) - 1, 0)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            found[i + j] += a * b
    return _trimmed(tuple(found))


def _derived(p: Polynomial) -> Polynomial:
    return tuple(power * coefficient for power, coefficient in enumerate(p))[1:]


def _integrated(p: Polynomial) -> Polynomial:
    return (Fraction(0), *(coefficient / (power + 1) for power, coefficient in enumerate(p))) if p else ()


def _area(p: Polynomial, a: int, b: int) -> Fraction:
    whole = _integrated(p)
    return _at(whole, b) - _at(whole, a)


def _composed(p: Polynomial, shift: int, factor: int) -> Polynomial:
    """Return p(factor * x + shift)."""
    found: Polynomial = ()
    for coefficient in reversed(p):
        found = _sum(_product(found, (Fraction(shift), Fraction(factor))), (coefficient,))
    return found


def _lowest(p: Polynomial) -> Fraction:
    """Return where a parabola that opens upwards is lowest. ValueError for any other polynomial."""
    if len(p) != 3 or p[2] <= 0:
        raise ValueError("no parabola that opens upwards")
    return -p[1] / (2 * p[2])
