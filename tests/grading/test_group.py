"""Classes of equivalent answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.grading import group, group_answers

WAYS = [
    ["1/2", "0.5", r"\frac{1}{2}", r"\dfrac12", ".50"],
    ["x^2-1", "(x-1)(x+1)", "x**2 - 1"],
    ["1,2", "2, 1", r"\{1,2\}"],
    ["(1,3)", r"\left(1, 3\right)"],
    [r"\sqrt{8}", r"2\sqrt{2}", "2*sqrt(2)"],
    ["Monday", r"\text{monday}"],
    ["x>3", r"(3,\infty)"],
    ["7", "7.0", "x=7", r"7\text{ cm}"],
]


def test_equivalent_answers_share_a_class_numbered_by_first_appearance() -> None:
    answers = [way for ways in WAYS for way in ways]
    expected = [number for number, ways in enumerate(WAYS) for _ in ways]
    assert group_answers(answers) == expected


@given(st.permutations([way for ways in WAYS for way in ways]))
def test_the_partition_does_not_depend_on_the_order(answers: list[str]) -> None:
    classes = group_answers(answers)
    seen: dict[int, set[str]] = {}
    for answer, number in zip(answers, classes, strict=True):
        seen.setdefault(number, set()).add(answer)
    assert sorted(map(sorted, seen.values())) == sorted(map(sorted, WAYS))
    assert list(dict.fromkeys(classes)) == list(range(len(WAYS)))


def test_in_a_vote_a_percentage_joins_its_number_only() -> None:
    assert group_answers([r"25\%", "0.25", "25"]) == [0, 1, 0]


def test_blank_answers_are_one_class_and_none_is_none() -> None:
    assert group_answers([]) == []
    assert group_answers(["", " ", "5"]) == [0, 0, 1]


def test_distinct_numbers_are_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(group, "equivalent", lambda *pair, **options: calls.append(pair) or False)
    assert group_answers([str(number) for number in range(64)]) == list(range(64))
    assert not calls
