"""The parts of the ladder one by one: normal form, limits, tolerance, tasks, rules in the result."""

from __future__ import annotations

import doctest
import importlib
from fractions import Fraction

import pytest

from rstar_eval.errors import UserError
from rstar_eval.grading import Tolerance, grade, grade_many
from rstar_eval.grading.characters import clean
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.exact import exact_value
from rstar_eval.grading.fingerprint import Undecided, equal
from rstar_eval.grading.latex import normal_form
from rstar_eval.grading.limits import LimitExceeded, check, collapse_brackets
from rstar_eval.grading.parse import parse
from rstar_eval.grading.read import read
from rstar_eval.grading.symbolic_gate import may_be_symbolic
from rstar_eval.grading.tokens import tokenise
from rstar_eval.grading.units import split_unit

MODULES = ("limits", "characters", "latex", "numerals", "words", "extract")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(f"rstar_eval.grading.{name}")
    results = doctest.testmod(module)
    assert results.attempted or name in ("limits", "words")
    assert results.failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("½", r"\frac{1}{2}"),
        ("x³", "x^{3}"),
        ("a₁", "a_{1}"),
        ("５", "5"),
        ("\u202e21", "21"),
        ("\ufeff5", "5"),
        ("5 \u2264 x", r"5 \le  x"),
        ("\x0crac{1}{2}", r"\frac{1}{2}"),
        ("2\times3", r"2\times3"),
    ],
)
def test_characters_have_one_spelling(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"$\dfrac{1}{2}$.", r"\frac{1}{2}"),
        (r"\[ x \]", "x"),
        (r"11,\! 111", "11111"),
        (r"1{,}000", "1000"),
        (r"\left( 1, 2 \right)", "( 1, 2 )"),
        (r"45^{\circ}", r"45\degree"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\frac{1}{2", r"\frac{1}{2}"),
        ("$21,16$ or $11$", "21,16 or 11"),
    ],
)
def test_latex_has_one_spelling(text: str, expected: str) -> None:
    assert normal_form(text) == expected


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1" * 30_000, "length"), ("1" * 5_000, "digits"), ("," * 3_000, "items"), ("(1+" * 200, "nesting")],
)
def test_a_text_over_a_cap_names_the_cap(text: str, limit: str) -> None:
    with pytest.raises(LimitExceeded, match=limit):
        check(text)


def test_doubled_brackets_are_removed_in_linear_time() -> None:
    assert collapse_brackets("(" * 5_000 + "x" + ")" * 5_000) == "(x)"
    assert collapse_brackets("((1)(2))") == "((1)(2))"
    assert collapse_brackets("((1)") == "((1)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", Fraction(7)),
        ("-2^2", Fraction(-4)),
        ("2^3^2", Fraction(512)),
        ("1/2/2", Fraction(1, 4)),
        ("2 1/2", Fraction(5, 2)),
        (r"3\frac{1}{7}", Fraction(22, 7)),
        (r"\frac12", Fraction(1, 2)),
        (r"\sqrt[3]{-8}", Fraction(-2)),
        (r"\binom{5}{2}", Fraction(10)),
        ("5!", Fraction(120)),
        ("7!!", Fraction(105)),
        (r"|-3|", Fraction(3)),
        (r"\lfloor 2.5\rfloor", Fraction(2)),
        ("Rational(1, 3)", Fraction(1, 3)),
        ("1/0", None),
        ("0^0", None),
        (r"\sqrt2", None),
        ("9^{9^{9}}", None),
    ],
)
def test_exact_values_are_exact(text: str, value: Fraction | None) -> None:
    assert exact_value(parse(tokenise(text), "\\" not in text)) == value


@pytest.mark.parametrize("text", ["1 2", "1+", "(1", "hello", r"\frac", r"\int x", "x_", "1..2", "3!!!"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(tokenise(text))


def test_a_value_that_cannot_be_computed_is_undecided_not_unequal() -> None:
    tower, one = (parse(tokenise(text)) for text in (r"9^{9^{9^{9}}}", r"\pi"))
    with pytest.raises(Undecided):
        equal(tower, one)


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        (r"5\text{ cm}^2", "5", {("centimetre", 2)}),
        ("60 miles per hour", "60", {("mile", 1), ("hour", -1)}),
        ("45mph", "45", {("mile", 1), ("hour", -1)}),
        (r"\$5", "5", {("dollar", 1)}),
        ("7 apples", "7", {("apple", 1)}),
        (r"1.2\text{ N}\cdot\text{m}", "1.2", {("newton", 1), ("metre", 1)}),
        ("4 cubic feet", "4", {("foot", 3)}),
        ("3x", "3x", None),
        ("3m", "3m", None),
    ],
)
def test_units_are_split_from_numbers(text: str, number: str, unit: set[tuple[str, int]] | None) -> None:
    rest, found = split_unit(tokenise(normal_form(text)))
    assert "".join(token.value for token in rest) == number
    assert (set(found.parts) if found else None) == unit


def test_the_tolerance_is_stated_and_can_be_set() -> None:
    assert grade("3.14", "3.141").outcome == "wrong"
    assert grade("3.14", "3.141", tolerance=Tolerance(decimal_relative=1e-3)).outcome == "correct"
    assert grade("314", "314.1", tolerance=Tolerance(decimal_relative=1e-3)).outcome == "wrong"
    assert grade(r"\frac13", "0.333333333333333").outcome == "correct"
    assert grade(r"\frac13", "0.333333333333333", tolerance=Tolerance(float_digits=16)).outcome == "wrong"
    with pytest.raises(UserError, match="decimal_relative"):
        Tolerance(decimal_relative=2.0)
    with pytest.raises(UserError, match="float_digits"):
        Tolerance(float_digits=2)


def test_a_task_without_thousands_separators_reads_a_list() -> None:
    assert grade("110,880", "110880").outcome == "correct"
    assert grade("110,880", "110880", task="collegemath").outcome == "wrong"
    assert grade("110,880", "880, 110", task="collegemath").outcome == "correct"


@pytest.mark.parametrize(
    ("gold", "pred", "rule"),
    [
        ("5", "5", "exact"),
        (r"\frac{1}{2}", r"$\dfrac{1}{2}$", "spelling"),
        ("1/2", "0.5", "number"),
        (r"\sqrt8", r"2\sqrt2", "value"),
        (r"25\%", "0.25", "percent"),
        ("5 cm", "5", "unit"),
        ("1,2", "2,1", "list"),
        ("(1,2)", "(2,1)", "tuple"),
        ("x>2", "x<2", "interval"),
        ("x+y=1", "2x+2y=2", "equation"),
        ("y=2x+3", "2x-y+3=0", "equation"),
        (r"\frac{40}{243}", "40:243", "ratio"),
        ("x=5", r"\{5\}", "set"),
        ("1/3", "2/6 = 0.333", "number"),
        ("Monday", r"\text{monday}", "words"),
        ("(B)", "B.", "choice"),
        ("4:30 pm", "16:30", "time"),
        ("3:4", "6:8", "ratio"),
        ("1011_2", "1011_3", "base"),
        ("5", "", "empty"),
        ("5", "9" * 5_000, "limit.digits"),
    ],
)
def test_the_deciding_rule_is_in_the_result(gold: str, pred: str, rule: str) -> None:
    assert grade(gold, pred).rule == rule


def test_many_pairs_are_graded_in_order() -> None:
    outcomes = [given.outcome for given in grade_many([("1", "1"), ("1", "2"), ("1", None)])]
    assert outcomes == ["correct", "wrong", "no_answer"]


@pytest.mark.parametrize(
    "text", ["__import__('os')", "lambda: 0", r"\write18{x}", "10000000000", "5!!!!", r"2^{2^{2}}", "x" * 500]
)
def test_what_looks_like_code_or_is_large_never_reaches_the_symbolic_stage(text: str) -> None:
    assert not may_be_symbolic(read(text))


def test_short_mathematics_may_reach_the_symbolic_stage() -> None:
    assert may_be_symbolic(read(r"\int_0^1 x^2\,dx"))
    assert grade(r"\int_0^1 x^2\,dx", r"\frac{1}{3}").rule == "symbolic"
