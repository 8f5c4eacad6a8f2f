"""Where an answer stands in a text, and by which rule it was found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.grading import extract_answer

LONG = "The area of the triangle " + "in the question " * 9
FOUND = [
    ("so \\boxed{5}.", "5", "boxed"),
    ("\\boxed{4} no, \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "boxed"),
    ("\\boxed{\\boxed{7}}", "7", "boxed"),
    ("\\boxed{\\text{(E)}}", "\\text{(E)}", "boxed"),
    ("\\boxed{\\left\\{1,2\\right\\}}", "\\left\\{1,2\\right\\}", "boxed"),
    ("$\\boxed{2}$ and $\\boxed{3}$", "2, 3", "boxed"),
    ("\\boxed{12} is right, \\boxed{} is not", "12", "boxed"),
    ("thus \\boxed{12", "12", "boxed"),
    ("thus \\boxed 9 holds", "9", "boxed"),
    ("\\fbox{3}", "3", "boxed"),
    ("<answer>\n 42 \n</answer>", "42", "tag"),
    ("<answer>The value is \\boxed{6}.</answer>", "6", "boxed"),
    ("we add\n#### 1,234", "1,234", "hash"),
    ("Now we see. The answer is 42.", "42", "anchor"),
    ("The final answer is: $x = 5$. I hope it is correct.", "$x = 5$", "anchor"),
    ("**Final Answer:** 3.5", "3.5", "anchor"),
    ("Final answer: (1, 2)", "(1, 2)", "anchor"),
    ("Answer: B", "B", "anchor"),
    ("The answer is 3.14, since pi is near", "3.14", "anchor"),
    ("Therefore we get\n\n**17**", "17", "bold"),
    (LONG + "is this:\n$\\frac{3}{4}$", "\\frac{3}{4}", "display"),
    ("Final answer: $x=1$ or $x=2$", "$x=1$ or $x=2$", "anchor"),
    ("Final answer: $5$, $6$ and $7$.", "$5$, $6$ and $7$", "anchor"),
    ("The answer is $7$ because 7 is prime.", "$7$", "anchor"),
    ("The answer is $5$ square units", "$5$ square units", "anchor"),
    ("Thus, the answer is $\\$5.50$.", "$\\$5.50$", "anchor"),
    ("The answer is 1,000,000.", "1,000,000", "anchor"),
    ("So $a+b = \\boxed{10}$ and $\\boxed{10}$ is final.", "10", "boxed"),
    ("we get \\boxed{\\frac{1}{2", "\\frac{1}{2", "boxed"),
    ("答案是 \\boxed{５}", "５", "boxed"),
    ("<think>\\boxed{1}</think><answer>\\boxed{2}</answer>", "2", "boxed"),
    ("42", "42", "plain"),
    ("  x = 3 \n", "x = 3", "plain"),
    ("<|assistant|>7<end_of_answer>", "7", "plain"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), FOUND)
def test_the_stated_answer_is_found(text: str, answer: str, rule: str) -> None:
    found = extract_answer(text)
    assert found is not None
    assert (found.text, found.rule) == (answer, rule)


@pytest.mark.parametrize(
    "text", ["", "  \n ", "\\boxed{ }\n\n", "We start with the first step.\nThen we go on.\nWe reach no end in sight."]
)
def test_a_text_without_an_answer_gives_none(text: str) -> None:
    found = extract_answer(text)
    assert found is None or (found.rule == "plain" and "boxed" in text)


@pytest.mark.parametrize(("text", "answer", "rule"), FOUND)
def test_the_span_points_at_the_answer(text: str, answer: str, rule: str) -> None:
    found = extract_answer(text)
    assert found is not None
    held = text[found.span[0] : found.span[1]]
    assert held == found.text or (rule == "boxed" and "," in found.text)


@given(st.text(alphabet=list("\\boxedfrac{}$*#<>answer is :=.0123,\n() "), max_size=200))
def test_any_text_gives_an_answer_inside_it_or_none(text: str) -> None:
    found = extract_answer(text)
    if found is not None:
        assert 0 <= found.span[0] < found.span[1] <= len(text)
        assert found.text.strip()


def test_a_long_text_is_read_from_its_end() -> None:
    text = "\\boxed{1} " + "word " * 100_000 + "\\boxed{2}"
    found = extract_answer(text)
    assert found is not None
    assert found.text == "2"
    assert text[found.span[0] : found.span[1]] == "2"


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "the answer is ",
        "**a",
        "$x",
        "<answer>",
        "#### ",
        "{",
        "\\boxed{1} and ",
        "\\[",
        "\\(",
        "$$a",
        "is $1$, ",
    ],
)
def test_a_repeated_opening_does_not_hang(piece: str) -> None:
    extract_answer(piece * 20_000)
