"""Hostile input: towers, depth, size, code, TeX primitives. Right, soon, and nothing is run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rstar_eval.grading import grade

PLANT = "/tmp/rstar_eval_hostile"
WRONG = {
    "power tower": ("1", "9^{9^{9^{9}}}"),
    "printed tower": ("1", "9**9**9**9"),
    "tower against a tower": ("10^{10^{10}}", "10^{10^{11}}"),
    "huge factorial": ("1", "factorial(factorial(factorial(100)))"),
    "nested factorials": ("720", "(((10!)!)!)!"),
    "many factorials": ("1", "5!!!!!!!!!!"),
    "huge binomial": ("1", r"\binom{10^{20}}{10^{19}}"),
    "huge sum": ("5", r"\sum_{k=1}^{10^{12}} k"),
    "huge product": ("5", r"\prod_{k=1}^{10^{9}} k"),
    "nested sums": ("5", r"\sum_{i=1}^{2000}\sum_{j=1}^{2000}\sum_{k=1}^{2000} ijk"),
    "sine of a tower": ("0", r"\sin(10^{10^{10}})"),
    "exponential of a tower": ("0", r"e^{e^{e^{e^{e}}}}"),
    "huge floor": ("1", r"\lfloor 10^{10^{9}}/7 \rfloor"),
    "huge remainder": ("1", r"10^{10^{10}} \bmod 7"),
    "many digits": ("5", "5" * 100_000),
    "many decimals": ("5", "5." + "0" * 50_000 + "1"),
    "long name": ("5", "x" * 100_000),
    "many signs": ("5", "-" * 50_001 + "5"),
    "many items": ("3", "1," * 30_000 + "1"),
    "deep fractions": ("5", r"\frac{1}{" * 500 + "2" + "}" * 500),
    "deep roots": ("5", r"\sqrt{" * 500 + "5" + "}" * 500),
    "deep functions": ("5", "sin(" * 300 + "5" + ")" * 300),
    "deep sets": ("5", r"\{" * 200 + "5,6" + r"\}" * 200),
    "deep superscripts": ("5", "^".join(["2"] * 500)),
    "open brackets": ("5", "(" * 10_000),
    "open braces": ("5", r"\text{" * 3_000),
    "dollars": ("5", "$" * 20_001),
    "bars": ("5", "|" * 5_001 + "x"),
    "long words": ("5", r"\text{" + "a " * 9_000 + "}"),
    "commands without braces": ("5", r"\frac" * 3_000),
    "roots without braces": ("5", r"\sqrt" * 3_000 + "5"),
    "a vector of one": ("0", r"\langle0\rangle"),
    "a lone surrogate": ("x", "x\ud800y"),
    "huge exponent form": ("5", "1e999999999"),
    "python": ("5", f'__import__("os").system("touch {PLANT}")'),
    "python in a call": ("5", f"sympify(\"__import__('os').system('touch {PLANT}')\")"),
    "python lambda": ("5", f'(lambda: __import__("os").system("touch {PLANT}"))()'),
    "python attribute": ("5", "x.__class__.__base__.__subclasses__()"),
    "python list": ("3", "[0]*10**11"),
    "python text": ("3", "'A'*10**12"),
    "exit": ("5", "exit()"),
    "numeric to many digits": ("5", "N(pi, 10**7)"),
    "tex write": ("5", rf"\write18{{touch {PLANT}}}"),
    "tex input": ("5", r"\input{/etc/passwd}"),
    "reversed by direction mark": ("12", "\u202e21"),
    "division by zero": ("0", r"\frac{1}{0}"),
    "infinity": ("1", r"\infty"),
    "not a number": ("0", "nan"),
}  # fmt: skip
RIGHT = {
    "deep brackets": ("7", "(" * 3_000 + "7" + ")" * 3_000),
    "deep braces": ("7", "{" * 3_000 + "7" + "}" * 3_000),
    "much space": ("5", " " * 100_000 + "5"),
    "long sum": ("40001", "1+" * 40_000 + "1"),
    "full width": ("5", "５"),
    "byte-order mark": ("5", "\ufeff5"),
    "minus sign": ("-5", "−5"),
    "superscript": ("x^2", "x²"),
    "equal towers": ("10^{10^{10}}", "10^{10000000000}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_hostile_prediction_is_wrong(name: str) -> None:
    given = grade(*WRONG[name])
    assert given.outcome in ("wrong", "no_answer"), given
    assert not Path(PLANT).exists()


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_but_right_prediction_is_right(name: str) -> None:
    assert grade(*RIGHT[name]).outcome == "correct"


@pytest.mark.parametrize("name", WRONG)
def test_a_hostile_reference_gets_a_verdict(name: str) -> None:
    gold, pred = WRONG[name]
    assert grade(pred, gold).outcome in ("wrong", "grader_error")


def test_no_hostile_pair_hangs() -> None:
    for gold, pred in [*WRONG.values(), *RIGHT.values()]:
        start = time.monotonic()
        grade(gold, pred)
        assert time.monotonic() - start < 20, (gold, pred[:60])


def test_a_reference_over_a_cap_is_an_error_and_names_the_cap() -> None:
    given = grade("5" * 10_000, "5")
    assert (given.outcome, given.rule) == ("grader_error", "limit.digits")
