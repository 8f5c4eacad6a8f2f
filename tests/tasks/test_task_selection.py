"""Which problems `--ids` and `--limit` mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.tasks import load_task, select


def problem(index: int, identity: str) -> Problem:
    return Problem(identity, "t", index, f"q{index}", "1")


PROBLEMS = tuple(
    problem(i, identity)
    for i, identity in enumerate(["1234000000000000", "abcd000000000000", "abcd100000000000", "0003aaaaaaaaaaaa"])
)


@pytest.mark.parametrize(
    ("ids", "limit", "chosen"),
    [
        (None, None, [0, 1, 2, 3]),
        (None, 2, [0, 1]),
        (None, 99, [0, 1, 2, 3]),
        (["2"], None, [2]),
        (["abcd000000000000"], None, [1]),
        (["ABCD1"], None, [2]),
        (["1234"], None, [0]),  # no index reaches 1234, so it is a prefix
        (["0003"], None, [3]),
        (["3", "0", "1234"], None, [0, 3]),
        (["3", "0"], 1, [0]),
    ],
)
def test_selects_in_the_order_of_the_task(ids: list[str] | None, limit: int | None, chosen: list[int]) -> None:
    assert [p.index for p in select(PROBLEMS, ids, limit)] == chosen


@pytest.mark.parametrize(
    ("ids", "limit", "match"),
    [
        (["9"], None, "no problem '9'.*0 to 3"),
        (["abc"], None, "no problem 'abc'.*4 or more"),
        (["abcd"], None, "'abcd' fits 2 problems.*more digits"),
        (["ffffffffffffffff"], None, "no problem 'ffff"),
        (["-1"], None, "no problem '-1'"),
        (["½"], None, "no problem '½'"),
        (["²"], None, "no problem '²'"),
        ([""], None, "no problem ''"),
        ([], None, "empty"),
        (None, 0, "limit is 0.*1 or more"),
        (None, -2, "limit is -2"),
    ],
)
def test_refuses_in_one_line(ids: list[str] | None, limit: int | None, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        select(PROBLEMS, ids, limit)
    assert "\n" not in str(error.value)


MINI = load_task("mini_math").problems


@given(st.lists(st.sampled_from(MINI), min_size=1, max_size=5), st.integers(8, 16))
def test_every_problem_is_found_by_its_prefix(wanted: list[Problem], length: int) -> None:
    found = select(MINI, [p.id[:length] if not p.id[:length].isdigit() else p.id for p in wanted])
    assert {p.id for p in found} == {p.id for p in wanted}
