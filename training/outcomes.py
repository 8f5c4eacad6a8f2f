"""What tells a search in training whether its answers are right. Sees gold answers; nothing of a test does this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rstar_eval.problem import Problem
from rstar_eval.solver.search import Outcome


def judge(grader: str = "default") -> Callable[[Problem, str], bool]:
    """Return what tells whether an answer to a problem is right; each distinct answer is graded once."""
    from rstar_eval.runner import grade_answers

    known: dict[tuple[str, str], bool] = {}

    def right(problem: Problem, answer: str) -> bool:
        key = (problem.id, answer)
        if key not in known:
            known[key] = grade_answers(problem, [answer], grader)[0].outcome == "correct"
        return known[key]

    return right


def judged_outcomes() -> Callable[[Problem], Outcome]:
    """Return what gives a problem's search the outcomes of its answers (`engine.MakeOutcomes`)."""
    right = judge()

    def outcome_of(problem: Problem) -> Outcome:
        async def outcome(answer: str) -> bool:
            return await asyncio.to_thread(right, problem, answer)

        return outcome

    return outcome_of
