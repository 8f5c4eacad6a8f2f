"""Hostile steps on a rich state: whatever they do to it or to the libraries, their siblings never see it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rstar_eval.solver.executor import Limits, StepExecutor, start_executor
from rstar_eval.solver.types import StepRun

from .conftest import do

ATTACKS: list[dict[str, str]] = yaml.safe_load(Path(__file__).with_name("siblings.yaml").read_text())
FEW = {"assumption_global", "evaluate_generator", "parent_list", "parent_array", "calendar_table", "factor_cache"}
SECRET = "SECRET-of-the-harness"
ROOT = """
import collections, functools
import numpy as np
from sympy import Symbol, Matrix, symbols
s = Symbol('s')
data = [1, 2, 3]
nested = {'k': [1]}
arr = np.arange(5.0)
view = arr[1:3]
M = Matrix([[1, 2], [3, 4]])
def fdefault(x, acc=[]):
    acc.append(x)
    return acc
def make():
    n = [0]
    def c():
        n[0] += 1
        return n[0]
    return c
counter = make()
@functools.lru_cache
def cached(x):
    return x + len(data)
dq = collections.deque([1, 2, 3])
dd = collections.defaultdict(list)
st = {1, 2}
oarr = np.empty(2, dtype=object)
oarr[0] = [0]
oarr[1] = [1]
"""
CONTROL = """
import math, random, json, calendar, decimal, fractions, warnings
import sympy, numpy as np, mpmath
from sympy import ask, Q, solve, factorint, sin, lambdify
from sympy.physics.units import meter
from numpy.polynomial import Polynomial
print(data, nested, arr, view, M, fdefault(1), counter(), cached(2), dq, dict(dd), st, list(oarr))
print(ask(Q.positive(s)), 1 + s + s, sympy.Rational(1, 3) + 1, calendar.monthrange(2023, 2), calendar.firstweekday())
print(Polynomial.domain, decimal.Decimal(1) / 3, fractions.Fraction(1, 3) + 1, mpmath.mpf(1) / 3, json.dumps([1]))
print(sympy.Add(s, s**2, 1), str(s), sympy.N(sympy.pi, 20), lambdify(s, sin(s))(0.0), factorint(91))
print(np.float64(1) / 3, np.array([1 / 3]), random.random(), np.random.rand(), np.log(np.array([-1.0])))
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
print(deep(800), sympy.factor(s**4 - 1), sympy.gcd(s**2 - 1, s - 1), len('abc'), sorted([3, 1]), int('7'))
warnings.warn('x')
print(sympy.latex(s / 2), dict(collections.Counter('aab')), meter.scale_factor)
"""
OTHER_CONTROL = CONTROL + "zz = 1\n"  # another step: equal ones are not run twice


def shown(run: StepRun) -> tuple[str, str, str, str]:
    return run.status, run.output, run.error_type, run.error


def attack_all(loop: asyncio.AbstractEventLoop, level: str, attacks: list[dict[str, str]]) -> Iterator[str]:
    """Run every attack alone and in a batch; yields what went wrong."""
    executor: StepExecutor = do(loop, start_executor(level, limits=Limits(cpu_seconds=1.0, memory_mb=400)))

    def both_controls(session: Any, node: int) -> list[tuple[str, str, str, str]]:
        return [shown(do(loop, session.run(node, code))) for code in (CONTROL, OTHER_CONTROL)]

    def opened(key: str) -> tuple[Any, int]:
        session = do(loop, executor.open(key))
        root = do(loop, session.run(None, ROOT))
        assert root.status == "ok", root
        return session, root.node

    def wrong(name: str, run: StepRun, statuses: str) -> Iterator[str]:
        if run.status not in statuses.split():
            yield f"{name}: {run}"
        if SECRET in run.output + run.error or "ESCAPED" in run.output:
            yield f"{name}: printed {run.output[:80]!r}"

    try:
        session, node = opened("reference")
        right = both_controls(session, node)
        assert [one[0] for one in right] == ["ok", "ok"], right
        do(loop, session.close())
        for attack in attacks:
            name = attack["name"]
            session, node = opened(name)
            yield from wrong(name, do(loop, session.run(node, attack["code"])), attack["status"])
            if both_controls(session, node) != right:
                yield f"{name}: a sibling differs"
            do(loop, session.close())
            session, node = opened(name)
            runs = do(loop, session.run_many(node, ["k = 1", attack["code"], CONTROL, "k = 2", OTHER_CONTROL]))
            yield from wrong(f"{name} in a batch", runs[1], attack["status"])
            if [shown(runs[2]), shown(runs[4])] != right or {runs[0].status, runs[3].status} != {"ok"}:
                yield f"{name}: a sibling in the batch differs"
            do(loop, session.close())
            session, node = opened("fresh")
            if both_controls(session, node) != right:
                yield f"{name}: a fresh worker differs"
            do(loop, session.close())
    finally:
        do(loop, executor.close())


def test_a_few_hostile_steps_reach_no_sibling(
    level: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RSTAR_EVAL_TOKEN", SECRET)
    assert list(attack_all(loop, level, [attack for attack in ATTACKS if attack["name"] in FEW])) == []


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["strong", "good"])
def test_no_hostile_step_reaches_a_sibling(
    level: str, loop: asyncio.AbstractEventLoop, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isolation == "strong" != level:
        pytest.skip(f"the strongest level here is {level}")
    monkeypatch.setitem(os.environ, "RSTAR_EVAL_TOKEN", SECRET)
    assert list(attack_all(loop, isolation, ATTACKS)) == []
