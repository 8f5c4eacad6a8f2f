"""Texts on which the grader once raised, or took for ever: each gets a verdict, soon, whatever it is graded against.

Found by the fuzz and by reading the code for its kinds of fault: an index into nothing, digits beyond what int() takes,
work that doubles with every level of brackets or grows with the square of a list.
"""

from __future__ import annotations

import time

import pytest

from rstar_eval.grading import extract_answer, grade, group_answers

SECONDS = 3.0  # CPU time for all calls on one row; each was minutes, or has no end
PRIMES = [n for n in range(2, 600) if all(n % p for p in range(2, n))]
FRACTIONS = "+".join(f"1/{p}^{{{38_000 // p.bit_length()}}}" for p in PRIMES)


def nested(opening: str, inner: str, closing: str, levels: int) -> str:
    return opening * levels + inner + closing * levels


def paired(levels: int) -> str:
    """Sets of two sets of two sets and so on."""
    return str(levels % 7) if levels == 0 else rf"\{{{paired(levels - 1)},{paired(levels - 1)}+1\}}"


ROWS = {
    "a phrase and no answer": "= the answer is =",
    "a function of two arguments with one": "atan2(3)",
    "permutations of one number": "perm(x)",
    "a binomial of one number": "binomial(x)",
    "a sum up to its own variable": r"\sum_{k=1}^{k} k",
    "a sum up to letters that hold its variable": r"\sum_{n=0}^{nfty}\frac{x^{n}}{n!}",
    "a product up to its own variable": r"\prod_{n=1}^{nfty}{3}",
    "a digit that int() doesn't take": "5 cm^\U00010a41",
    "such a digit in braces": "5 m^{\u1369}",
    "thousands joined beyond int()": "3 1" + r"\,234" * 2_000 + "/7",
    "a time of 6,000 digits": "1" + r"\,234" * 2_000 + ":15",
    "an exponent after a period": r"0.\overline{1}e400",
    "such an exponent and an open brace": r"0.\overline1e5{",
    "spaces before nothing": " " * 19_000 + r"\left\{x)",
    "open texts among closed brackets": r"\text{)" * 2_700 + "1",
    "open parentheses of LaTeX": r"\(" * 9_000,
    "ampersands": "&-" * 9_500,
    "division without brackets, deep": "/".join(["x"] * 1_400),
    "numbers divided, deep": "/".join(["2"] * 1_400),
    "percent of percent, deep": "x" + "%" * 2_500,
    "degrees of degrees, deep": "x" + r"^\circ" * 900,
    "powers of powers, deep": "x" + "^2!" * 900,
    "square brackets": nested("[", "x", "]", 50),
    "set brackets": nested(r"\{", "1", r"\}", 50),
    "two kinds of brackets": nested("([", "1", "])", 28),
    "sets in brackets": nested(r"(\{", "1", r"\})", 28),
    "unions in brackets": nested(r"(1\cup ", "2", ")", 28),
    "fractions after numbers": nested(r"3\frac{", "1", "}{5}", 18),
    "sets of sets of sets": paired(9),
    "many roots": ",".join(rf"\sqrt{{x+{n}}}" for n in range(199)),
    "many excluded numbers": r"x\ne " + ",".join(map(str, range(900))),
    "many quadratic inequalities": ",".join(f"x^2>{n}" for n in range(900)),
    "many inequalities of two variables": " and ".join(f"x+y>{n}" for n in range(900)),
    "a long chain": "<".join(f"{n}x" for n in range(700)),
    "many choices of sign": "(" + ",".join([r"\pm 1"] * 900) + ")",
    "a common denominator of millions of digits": FRACTIONS,
    "antiderivatives of many variables": "+".join(f"x_{n}" for n in range(700)) + "+C",
    "a hyperbolic function of a huge number": r"\sinh(2^{4000})",
}


@pytest.mark.parametrize("name", ROWS)
def test_a_text_gets_a_verdict_soon(name: str) -> None:
    text = ROWS[name]
    other = f"{text}+1"
    start = time.process_time()
    for pair, grader in (((text, other), "default"), ((other, text), "default"), ((text, "3"), "official")):
        assert grade(*pair, grader=grader).rule != "exception"
    assert group_answers([text, other, text], symbolic=False)[-1] == 0
    assert time.process_time() - start < SECONDS


TEXTS = {
    "empty lines": " \n" * 90_000 + "x",
    "spaces in an announcement": "answer to" + " " * 100_000 + "x",
    "open boxes": "\\boxed{x\n" * 22_000,
    "announcements": "the answer is $x" * 12_000,
    "announcements without an end": " the answer is 3" * 12_000 + "x]",
    "open displays": r"\(" * 90_000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_answer_is_sought_in_linear_time(name: str) -> None:
    start = time.process_time()
    extract_answer(TEXTS[name])
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("gold", "pred", "outcome"),
    [
        (r"3\frac{4}{1}", "12", "correct"),  # no mixed number: a product, read once
        (r"3\frac41", "12", "correct"),
        (r"3\frac14", "13/4", "correct"),
        (r"x\ne -1, a", r"x\ne -1", "wrong"),  # points that have no order are not dropped
        (r"x\ne -1, 4", r"x\ne 4, -1", "correct"),
        (r"\sin(2\pi x)+C", r"\sin(2\pi x)+x-x+C", "correct"),
        (r"\sin(2\pi x)+C", "C", "wrong"),  # periodic, not constant
        ("x^2+C", "x^2+5+C", "correct"),
        (r"0.\overline{1}e2", "100/9", "correct"),
        (r"45 ^\circ", r"45\degree", "correct"),
        (r"\sum_{k=1}^{k} k", "k(k+1)/2", "correct"),
        (r"k+\sum_{k=1}^{3} k", "k+6", "correct"),
    ],
)
def test_what_was_mended_along_the_way(gold: str, pred: str, outcome: str) -> None:
    assert grade(gold, pred).outcome == outcome
