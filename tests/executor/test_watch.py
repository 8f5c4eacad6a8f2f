"""When a step counts as asleep: not because it waits for a core."""

from __future__ import annotations

import pytest

from rstar_eval.solver.executor.cage.watch import Watch


def watch() -> Watch:
    return Watch(base=7.0, cpu=5.0, wall=20.0, steps=1, begun=100.0, clock=7.0, moved=100.0)


@pytest.mark.parametrize(
    ("a_poll", "every", "sleeps"),
    [
        (0.0, 0.01, True),  # does nothing
        (0.000001, 0.01, True),  # wakes and sleeps again: a ten thousandth of the time
        (0.0002, 0.01, False),  # has a core for 2 % of the time: another job has the rest
        (0.02, 1.5, False),  # the same, seen rarely, because the zygote waits for a core as well
        (0.01, 0.01, False),
    ],
)
def test_only_a_clock_that_stands_still_is_asleep(a_poll: float, every: float, sleeps: bool) -> None:
    one, now, clock, found = watch(), 100.0, 7.0, False
    while now < 130.0:
        now, clock = now + every, clock + a_poll
        found = found or one.sleeps(clock, now)
    assert found is sleeps


@pytest.mark.parametrize(
    ("steps", "clock", "now", "began", "since", "why"),
    [
        (1, 11.9, 101.0, 7.0, 100.0, ""),
        (1, 12.1, 101.0, 7.0, 100.0, "cpu"),
        (1, 7.0, 119.0, 7.0, 100.0, ""),
        (1, 7.0, 121.0, 7.0, 100.0, "wall"),
        (4, 25.0, 150.0, 21.0, 145.0, ""),  # the fourth step, whose turn has just begun
        (4, 26.5, 150.0, 21.0, 145.0, "cpu"),
        (4, 27.1, 150.0, 1e9, 1e9, "cpu"),  # a step that says that it begins in the far future
        (4, 12.1, 150.0, float("nan"), float("nan"), "cpu"),  # or nothing that is a number: as the first one
        (4, 12.1, 101.0, -1e9, -1e9, "cpu"),  # or in the far past: as the whole request's first
        (1, 8.0, 301.0, 7.0, 100.0, "wall"),  # awake now and then
    ],
)
def test_each_step_has_its_own_limits_and_the_request_has_them_all(
    steps: int, clock: float, now: float, began: float, since: float, why: str
) -> None:
    one = watch()
    one.steps = steps
    assert one.judge(clock, now, began, since) == why
