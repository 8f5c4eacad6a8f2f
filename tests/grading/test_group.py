"""Classes of equivalent answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.grading import group, group_answers
from rstar_eval.grading.types import Verdict
from rstar_eval.solver.choose import Choosing
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.context import SearchContext, Tools
from rstar_eval.solver.types import Question

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


def test_a_phrase_without_an_answer_is_a_class_of_its_own() -> None:
    """Found by the fuzz: it raised IndexError."""
    assert group_answers(["", "= the answer is =", "5"], symbolic=False) == [0, 1, 2]


def test_an_end_beyond_the_floats_is_placed_exactly() -> None:
    """Found by the fuzz: comparing two ends raised OverflowError."""
    assert group_answers([r"1e400\nex", r"x\ne 10^{400}", r"x\neq 5"], symbolic=False) == [0, 0, 1]


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


def test_what_was_compared_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def symbolic(*_: object) -> tuple[Verdict, float]:
        asked.append("once")
        return Verdict("correct", "symbolic"), 0.0

    monkeypatch.setattr(group, "symbolic_verdict", symbolic)
    group.forget()
    answers = [r"\int_0^1 x\,dx", r"\int_{0}^{1}t\,dt"]
    assert group_answers(answers) == group_answers(answers) == [0, 0]
    assert len(asked) == 2  # both ways round, at the first call only
    group.forget()


def test_a_search_compares_answers_off_the_event_loop() -> None:
    where: list[int] = []

    def slow(answers: Sequence[str]) -> list[int]:
        where.append(threading.get_ident())
        time.sleep(0.3)
        return list(range(len(answers)))

    async def compare() -> int:
        tools = Tools(None, None, None, slow)  # type: ignore[arg-type]
        choosing = Choosing("majority", 1, 0, slow)
        context = SearchContext(Question("0" * 16, "?"), tools, SearchConfig(), 0, None, choosing)  # type: ignore[arg-type]
        comparing = asyncio.create_task(context.compare(["1", None, "2"]))
        beats = 0
        while not comparing.done():
            await asyncio.sleep(0.01)
            beats += 1
        await context.compare(["1", "1", None])  # nothing to compare
        return beats

    assert asyncio.run(compare()) > 3, "the loop was held up"
    assert len(where) == 1
    assert where[0] != threading.get_ident()


def test_threads_get_the_same_classes() -> None:
    answers = [way for ways in WAYS for way in ways]
    group.forget()
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(group_answers(answers))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(classes == found[0] for classes in found)


def test_huge_numbers_and_steps_have_keys_that_are_safe() -> None:
    assert group_answers(["0,2000!", "2000!,0", "0,2001!"]) == [0, 0, 1]
    assert group_answers(["|x-3|", "3-x", r"\lfloor x/10 \rfloor", r"\lfloor x/20 \rfloor"]) == [0, 1, 2, 3]
