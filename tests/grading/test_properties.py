"""Properties: reflexive on real references, invariant under rewriting, symmetric where claimed, never a surprise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rstar_eval.grading import grade
from rstar_eval.grading.group import equivalent
from rstar_eval.grading.ladder import Passed, decide
from rstar_eval.grading.read import read

TASKS = ("GSM8K", "MATH", "aime2024", "amc23", "collegemath", "gaokao2023en", "math500", "olympiadbench", "omni")


def golds(folder: Path, task: str) -> list[str]:
    records = json.loads((folder / "benchmarks" / f"{task}_test.json").read_text())
    records = records if isinstance(records, list) else list(records.values())
    found = []
    for record in records:
        answer = record["answer"]
        found.extend(map(str, answer) if isinstance(answer, list) else [str(answer)])
    return sorted({answer for answer in found if answer.strip()})


def outcome(gold: str, pred: str) -> str:
    """The verdict of the rules in this process; "passed" if only the symbolic stage could tell."""
    verdict = decide(gold, pred)
    return "passed" if isinstance(verdict, Passed) else verdict.outcome


REWRITINGS: dict[str, Callable[[str], str]] = {
    "by a space": lambda text: f"{text} ",
    "space around": lambda text: f"  {text}\n",
    "in dollars": lambda text: f"${text}$" if "$" not in text.replace(r"\$", "") else text,
    "boxed": lambda text: f"\\boxed{{{text}}}" if text.count("{") == text.count("}") else text,
    "dfrac": lambda text: text.replace(r"\frac", r"\dfrac"),
    "a full stop": lambda text: text if text.endswith((".", "!")) else f"{text}.",
    "spaced signs": lambda text: re.sub(r"(?<![,{\\^_])([=+])(?![}\\])", r" \1 ", text),
    "thin spaces": lambda text: (
        re.sub(r"(?<![\\A-Za-z]),(?=[^\\!\d}])", r",\\,", text) if "\\text" not in text else text
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_reference_is_read_and_equals_its_own_rewritings(
    shared_data: Path, task: str, request: pytest.FixtureRequest
) -> None:
    """Every reference by two rewritings in turn; by all of them with --run-slow."""
    step = 1 if request.config.getoption("--run-slow") else len(REWRITINGS) // 2
    failures, tried = [], 0
    for place, gold in enumerate(golds(shared_data, task)):
        assert not read(gold).limit, gold
        assert outcome(gold, gold) == "correct"
        for name in list(REWRITINGS)[place % step :: step]:
            tried += 1
            if outcome(gold, REWRITINGS[name](gold)) != "correct":
                failures.append((name, gold))
    # prose with displays inside, where a rewriting changes what is one
    assert len(failures) <= tried // 2_000 + (step > 1), failures[:10]


# generated expressions

NUMBERS = st.fractions(min_value=-50, max_value=50, max_denominator=12)
LETTERS = st.sampled_from("xyzabn")


def latex_number(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def combine(parts: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    """Pairs of spellings (LaTeX, Python) of one expression."""
    two = st.tuples(parts, parts)
    return st.one_of(
        two.map(lambda ab: (f"{ab[0][0]}+{ab[1][0]}", f"({ab[1][1]}) + ({ab[0][1]})")),
        two.map(lambda ab: (f"\\left({ab[0][0]}\\right)\\left({ab[1][0]}\\right)", f"({ab[1][1]})*({ab[0][1]})")),
        two.map(
            lambda ab: (
                f"\\dfrac{{{ab[0][0]}}}{{3+\\left({ab[1][0]}\\right)^2}}",
                f"({ab[0][1]})/(3 + ({ab[1][1]})**2)",
            )
        ),
        parts.map(lambda a: (f"\\sqrt{{5+\\left({a[0]}\\right)^{{2}}}}", f"sqrt(({a[1]})**2 + 5)")),
        parts.map(lambda a: (f"\\sin\\left({a[0]}\\right)", f"sin({a[1]})")),
    )


LEAVES = st.one_of(
    NUMBERS.map(lambda value: (latex_number(value), f"({value.numerator}/{value.denominator})")),
    LETTERS.map(lambda name: (name, name)),
    st.just((r"\pi", "pi")),
)
EXPRESSIONS = st.recursive(LEAVES, combine, max_leaves=6)


@given(EXPRESSIONS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_expression_equals_its_printed_form_both_ways(pair: tuple[str, str]) -> None:
    latex, printed = pair
    assert outcome(latex, printed) == "correct"
    assert outcome(printed, latex) == "correct"


@given(EXPRESSIONS, NUMBERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_expression_differs_from_itself_plus_a_number(pair: tuple[str, str], extra: Fraction) -> None:
    assume(extra != 0)
    latex, printed = pair
    assert outcome(latex, f"({printed}) + ({extra.numerator}/{extra.denominator})") == "wrong"


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.randoms())
@settings(max_examples=100, deadline=None)
def test_lists_are_unordered_and_tuples_ordered(values: list[Fraction], random: object) -> None:
    shuffled = sorted(values, key=lambda value: (value.denominator, value))
    one, other = (", ".join(map(latex_number, items)) for items in (values, shuffled))
    assert outcome(one, other) == "correct"
    if len(values) > 1:
        assert outcome(f"({one})", f"({other})") == ("correct" if values == shuffled else "wrong")


@given(NUMBERS, NUMBERS)
@settings(max_examples=150, deadline=None)
def test_numbers_are_equal_only_if_they_are(left: Fraction, right: Fraction) -> None:
    spelled = f"{right.numerator}/{right.denominator}"
    assert (outcome(latex_number(left), spelled) == "correct") == (left == right)


ANSWERS = st.sampled_from(
    ["1/2", "0.5", r"25\%", "0.25", "25", "x=5", "5", "(1,2)", "1,2", "2,1", "[1,2]", "x>2", r"(2,\infty)", "5 cm",
    "5 m", "B", "(B) 5",
     "yes", "204_5", "204", "4:30 pm", "16:30", "3:4", "y=2x", "2x", "2x-y=0", r"\sqrt2", "1.4142135623730951", ""]
)  # fmt: skip


@given(ANSWERS, ANSWERS)
@settings(max_examples=300, deadline=None)
def test_equivalent_is_symmetric_and_reflexive(left: str, right: str) -> None:
    assert equivalent(left, left, symbolic=False)
    assert equivalent(left, right, symbolic=False) == equivalent(right, left, symbolic=False)


def test_a_defect_of_the_grader_is_an_outcome_and_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from rstar_eval.grading import graders

    def broken(*arguments: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(graders, "decide", broken)
    given_grade = grade("1", "2")
    assert (given_grade.outcome, given_grade.rule) == ("grader_error", "exception")
    assert "a defect" in given_grade.detail
