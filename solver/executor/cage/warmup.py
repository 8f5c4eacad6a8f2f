"""What the zygote does before it is caged, so that workers find it done: imports, and a first use of slow paths."""

from __future__ import annotations

import importlib
from typing import Any

MODULES = """
math cmath fractions decimal itertools functools collections random statistics heapq bisect operator string re datetime
time calendar numbers copy typing dataclasses array enum json struct textwrap pprint hashlib zlib abc contextlib io
tokenize traceback queue
numpy numpy.linalg numpy.polynomial numpy.random scipy.special scipy.linalg scipy.optimize scipy.integrate
sympy sympy.abc sympy.stats sympy.geometry sympy.combinatorics sympy.physics.units sympy.solvers.inequalities
sympy.solvers.diophantine sympy.printing.latex sympy.utilities.lambdify mpmath
"""

STEPS = """
from sympy import *
a, b = symbols('a b')
u = solve([a + b - 3, a - 2*b], [a, b])

t = symbols('t', real=True)
v = solve(t**3 - 4*t**2 + t + 6, t), solve(Abs(t - 2) - 5, t), solve(t**4 - 5*t**2 + 4)

v = simplify((t**2 - 9)/(t - 3)), factor(t**4 - 16), expand((t + 2)**5), apart(1/(t**2 - 1))
v = together(1/t + 1/(t + 1))

v = diff(sin(t)*exp(t), t), integrate(t**2*cos(t), t), integrate(exp(-t), (t, 0, oo)), limit(sin(t)/t, t, 0)

k, n = symbols('k n', integer=True, positive=True)
v = summation(k**2, (k, 1, n)), product(k, (k, 1, 6))

v = Matrix([[2, 1], [1, 3]]).det(), Matrix([[2, 1], [1, 3]]).inv(), Matrix([[2, 0], [0, 5]]).eigenvals()

v = factorint(360360), isprime(10**9 + 7), divisors(360), totient(36), gcd(84, 126)
v = binomial(20, 7), nextprime(200)

v = Rational(3, 8) + sqrt(50), nsimplify(0.375), N(pi*sqrt(2), 12)
v = trigsimp(sin(t)**2 + cos(t)**2), radsimp(1/(1 + sqrt(3)))

v = Poly(t**3 - 2*t + 5, t).all_coeffs(), roots(t**2 - 7*t + 10), solveset(t**2 < 9, t, S.Reals)
v = series(exp(t), t, 0, 4)

v = Point(1, 2).distance(Point(4, 6)), Circle(Point(0, 0), 3).area
v = Triangle(Point(0, 0), Point(4, 0), Point(0, 3)).area

v = solve(sqrt(t + 4) - t + 2, t), solve(2**t - 16, t), solve(log(t, 3) - 2, t), solve(t**2 + t + 1, t)

v = solve([a**2 + b**2 - 25, a - b - 1], [a, b]), linsolve([a + b - 1, a - b - 5], a, b)
v = simplify(sqrt(8) + sqrt(18))

v = str(sqrt(2)/2 + t**2), latex(t/2), lambdify(t, t**2 + 1)(3), floor(Rational(7, 2))
v = ceiling(2.3), Mod(17, 5)

import numpy as np
v = np.linalg.solve(np.array([[3.0, 1], [1, 2]]), np.array([9.0, 8])), np.roots([1, -3, 2])

from scipy.optimize import brentq, minimize
v = brentq(lambda x: x**2 - 2, 0, 2)
"""


def load(packages: tuple[str, ...]) -> None:
    """Import what steps use. ImportError if one of `packages` cannot be imported."""
    for name in MODULES.split():
        top = name.split(".")[0]
        if top not in ("sympy", "mpmath", "numpy", "scipy") or top in packages:
            importlib.import_module(name)
    for name in packages:
        importlib.import_module(name)


def run() -> None:
    """Run the warm-up steps, in one namespace. They are ours and may raise nothing."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for code in STEPS.split("\n\n"):
        exec(compile(code, "<warm-up>", "exec"), namespace)  # noqa: S102 - fixed text from this file
