"""The named graders: what `official` accepts and `default` doesn't, and what the others do."""

from __future__ import annotations

import pytest

from rstar_eval.errors import UserError
from rstar_eval.grading import GRADERS, grade

LENIENCIES = [
    ("70000", "70001", "official.tolerance"),
    (r"\sqrt{3}", "1.7321", "official.tolerance"),
    ("20", "2000", "official.hundred"),
    ("20", "0.2", "official.hundred"),
    ("1,2", "1,3", "official.first_item"),
    ("1,2", "1", ""),
    (r"\{4,5\}", r"\{4,6\}", "official.first_item"),
    ("x>5", "x<5", "official.relation"),
    ("x+y>5", "x+y<5", "official.relation"),
    (r"x\ge5", "x>5", "official.brackets"),
    (r"[6,\infty)", r"(6,\infty)", "official.brackets"),
    ("[1,2]", "(1,2)", "official.brackets"),
    ("(1,70000)", "(1,70001)", "official.tolerance"),
]


@pytest.mark.parametrize(("gold", "pred", "rule"), LENIENCIES)
def test_official_reproduces_each_leniency_and_default_does_not(gold: str, pred: str, rule: str) -> None:
    given = grade(gold, pred, grader="official")
    if rule:
        assert (given.outcome, given.rule) == ("correct", rule)
    else:
        assert given.outcome == "wrong"
    assert grade(gold, pred).outcome == "wrong"


@pytest.mark.parametrize(("gold", "pred", "rule"), [row for row in LENIENCIES if row[2]])
def test_official_judges_in_both_directions(gold: str, pred: str, rule: str) -> None:
    assert grade(pred, gold, grader="official").outcome == "correct"


@pytest.mark.parametrize(
    ("gold", "pred"), [("5", "7"), ("x>5", "x>6"), ("1,2", "2,3"), ("Monday", "Tuesday"), ("5", "6 apples")]
)
def test_official_still_refuses_what_differs(gold: str, pred: str) -> None:
    assert grade(gold, pred, grader="official").outcome == "wrong"


@pytest.mark.parametrize(("gold", "pred"), [(r"\frac12", "0.5"), ("x=5", "5"), (r"\text{(E)}", "E")])
def test_official_accepts_what_default_accepts(gold: str, pred: str) -> None:
    given = grade(gold, pred, grader="official")
    assert given.outcome == "correct"
    assert not given.rule.startswith("official.")


def test_string_compares_normal_forms_only() -> None:
    assert grade(r"\dfrac{1}{2}", r"$\frac{1}{2}$", grader="string").outcome == "correct"
    assert grade("1/2", "0.5", grader="string").outcome == "wrong"


def test_math_verify_grades_in_a_worker() -> None:
    assert grade("1/2", "0.5", grader="math_verify").outcome == "correct"
    assert grade("1/2", "0.6", grader="math_verify").outcome == "wrong"
    assert grade("1/2", "", grader="math_verify").outcome == "no_answer"


def test_every_grade_names_its_grader_and_version() -> None:
    assert sorted(GRADERS) == ["default", "math_verify", "official", "string"]
    for name in ("default", "official", "string"):
        given = grade("1", "2", grader=name)
        assert (given.grader, given.version) == (name, GRADERS[name].version)
        assert given.rule


def test_an_unknown_grader_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean official"):
        grade("1", "1", grader="oficial")
