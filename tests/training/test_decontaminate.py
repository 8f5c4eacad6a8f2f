"""Test questions in training text are found, and what matches is shown."""

from __future__ import annotations

import pytest

from rstar_eval.errors import UserError
from rstar_eval.training.decontaminate import decontaminate, longest_common, words

LONG = "A train leaves the station at noon and runs at sixty miles an hour towards the next town."


def questions(*texts: str) -> list[tuple[str, int, str, str]]:
    return [("t", index, f"id{index}", text) for index, text in enumerate(texts)]


def test_the_same_question_in_other_dress_is_exact() -> None:
    report = decontaminate({"a": "What is  $x^2$ ?"}, questions("what is x^2?", "what is x^3?"))
    assert [(one.index, one.exact, one.training) for one in report.matches] == [(0, True, "a")]
    assert (report.exact, report.tested, report.training, report.short) == (1, 2, 1, 2)


def test_shared_words_are_shown_with_their_share() -> None:
    other = "Yesterday " + LONG.replace("town.", "city, said Ann.")
    report = decontaminate(
        {"x": "unrelated", "y": other}, questions("Nothing here is in the training data at all.", LONG)
    )
    (match,) = report.matches
    assert (match.index, match.training, match.exact) == (1, "y", False)
    assert match.text == "a train leaves the station at noon and runs at sixty miles an hour towards the next"
    n_grams = len(words(LONG)) - 8 + 1
    assert match.share == pytest.approx((n_grams - 2) / n_grams, abs=1e-4)
    assert decontaminate({"y": other}, questions(LONG), least=0.9).matches == ()
    assert decontaminate({"y": other}, questions(LONG), n=18).matches == ()
    assert len(decontaminate({"y": other}, questions(LONG), n=17).matches) == 1


def test_numbers_and_latex_are_words() -> None:
    assert words(r"$\frac{1}{2}$ of 10") == ["\\frac", "{", "1", "}", "{", "2", "}", "of", "10"]
    assert longest_common(["a", "b", "c", "d"], ["x", "b", "c", "y", "d"]) == ["b", "c"]


@pytest.mark.parametrize("bad", [{"n": 0}, {"least": 1.5}])
def test_bad_settings(bad: dict[str, float]) -> None:
    with pytest.raises(UserError):
        decontaminate({}, [], **bad)  # type: ignore[arg-type]
