"""pytest-benchmark: one pair by the rule that decides it. Run: pytest benchmarks/grading --benchmark-enable"""

from __future__ import annotations

import pytest

from rstar_eval.grading import extract_answer, grade
from rstar_eval.grading.read import clear_cache

PAIRS = {
    "exact": (r"\frac{1}{2}", r"\frac{1}{2}"),
    "spelling": (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    "number": (r"\frac{1}{2}", "0.5"),
    "value": (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}"),
    "expression": ("(x-1)(x+1)", "x^2-1"),
    "list": ("1,2,3", r"\{3,2,1\}"),
    "interval": (r"(2,\infty)", "x>2"),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("state", ["warm", "cold"])
def test_one_pair(benchmark, name: str, state: str) -> None:
    gold, pred = PAIRS[name]

    def run() -> None:
        if state == "cold":
            clear_cache()
        grade(gold, pred)

    run()
    benchmark(run)


def test_extraction(benchmark) -> None:
    text = "We compute the sum step by step. " * 60 + "Thus the answer is \\boxed{\\frac{3}{4}}."
    assert benchmark(extract_answer, text) is not None
