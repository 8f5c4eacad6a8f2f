"""The named graders and the public functions: one pair, many pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rstar_eval.grading.ladder import Passed, decide
from rstar_eval.grading.limits import LIMITS, TOLERANCE, Tolerance
from rstar_eval.grading.official import lenient
from rstar_eval.grading.pool import GraderPool, Reply, shared_pool
from rstar_eval.grading.string_match import decide_string
from rstar_eval.grading.symbolic_gate import may_be_symbolic, needs_symbolic
from rstar_eval.grading.types import Grade, Verdict
from rstar_eval.registry import Registry

SYMBOLIC_SECONDS = 0.8
MATH_VERIFY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Grader:
    """A named grader. `decide(gold, prediction, task, tolerance, pool)` gives the verdict, and the
    milliseconds that are not its own work (waiting for a worker)."""

    name: str
    version: str
    summary: str
    decide: Callable[[str, str, str | None, Tolerance, GraderPool | None], tuple[Verdict, float]]


GRADERS: Registry[Grader] = Registry("grader")


def grade(
    gold: str,
    prediction: str | None,
    *,
    task: str | None = None,
    grader: str = "default",
    tolerance: Tolerance = TOLERANCE,
    pool: GraderPool | None = None,
) -> Grade:
    """Decide whether a prediction is equivalent to the reference answer.

    gold: the reference as its source writes it. prediction: the extracted answer, not a whole solution (see
    `extract_answer`); None or blank is "no_answer". task: name of the benchmark, for conventions that differ by source.
    grader: a name of GRADERS. tolerance: see `Tolerance`. pool: worker processes for the symbolic stage; a shared
    one is
    started when first needed.

    Never raises for what the texts contain. UserError if there is no such grader.
    """
    chosen = GRADERS[grader]
    start = time.perf_counter()
    if prediction is None or not prediction.strip():
        verdict, waited = Verdict("no_answer", "empty"), 0.0
    else:
        try:
            verdict, waited = chosen.decide(str(gold), str(prediction), task, tolerance, pool)
        except Exception as error:  # noqa: BLE001  a defect of a grader is an outcome of its own, counted and shown
            verdict, waited = Verdict("grader_error", "exception", f"{type(error).__name__}: {error}"[:300]), 0.0
    ms = max(0.0, (time.perf_counter() - start) * 1000 - waited)
    return Grade(verdict.outcome, verdict.rule, chosen.name, chosen.version, ms, verdict.detail)


def grade_many(
    pairs: Iterable[tuple[str, str | None]],
    *,
    task: str | None = None,
    grader: str = "default",
    tolerance: Tolerance = TOLERANCE,
    pool: GraderPool | None = None,
) -> list[Grade]:
    """Grade (gold, prediction) pairs in order; arguments as for `grade`."""
    return [
        grade(gold, prediction, task=task, grader=grader, tolerance=tolerance, pool=pool) for gold, prediction in pairs
    ]


def _timed(pool: GraderPool | None, method: str, gold: str, pred: str, seconds: float) -> tuple[Reply, float]:
    start = time.perf_counter()
    reply = (pool or shared_pool()).run(method, gold, pred, seconds)
    return reply, max(0.0, (time.perf_counter() - start) * 1000 - reply.ms)


def _default(
    gold: str, pred: str, task: str | None, tolerance: Tolerance, pool: GraderPool | None
) -> tuple[Verdict, float]:
    verdict = decide(gold, pred, task, tolerance)
    if not isinstance(verdict, Passed):
        return verdict, 0.0
    return symbolic_verdict(verdict, pool)


def symbolic_verdict(passed: Passed, pool: GraderPool | None) -> tuple[Verdict, float]:
    """Run the last rule of the ladder on a pair that no other rule decides; with the milliseconds spent waiting.

    What may not go to a worker (see `symbolic_gate`) is "wrong" by rule `unreadable`.
    """
    if not needs_symbolic(passed.gold, passed.pred):
        return Verdict("wrong", "unreadable"), 0.0
    if not may_be_symbolic(passed.gold) or not may_be_symbolic(passed.pred):
        return Verdict("wrong", "unreadable"), 0.0
    reply, waited = _timed(
        pool, "symbolic", passed.gold.normal.replace("~", " "), passed.pred.normal.replace("~", " "), SYMBOLIC_SECONDS
    )
    return Verdict(reply.outcome, reply.rule, reply.detail), waited


def _official(
    gold: str, pred: str, task: str | None, tolerance: Tolerance, pool: GraderPool | None
) -> tuple[Verdict, float]:
    verdict, waited = _default(gold, pred, task, tolerance, pool)
    if verdict.outcome in ("wrong", "grader_error"):
        verdict = lenient(gold, pred) or verdict
    return verdict, waited


def _math_verify(
    gold: str, pred: str, task: str | None, tolerance: Tolerance, pool: GraderPool | None
) -> tuple[Verdict, float]:
    if max(len(gold), len(pred)) > LIMITS.characters:
        return Verdict("grader_error", "limit.length", f"more than {LIMITS.characters} characters"), 0.0
    reply, waited = _timed(pool, "math_verify", gold, pred, MATH_VERIFY_SECONDS)
    return Verdict(reply.outcome, reply.rule, reply.detail), waited


def _string(
    gold: str, pred: str, task: str | None, tolerance: Tolerance, pool: GraderPool | None
) -> tuple[Verdict, float]:
    return decide_string(gold, pred), 0.0


GRADERS.add(
    "default", Grader("default", "3", "The ladder of this project: exact rules, structure, then symbolic.", _default)
)
GRADERS.add(
    "official",
    Grader("official", "3", "The default ladder plus the leniencies of the rStar authors' checker.", _official),
)
GRADERS.add(
    "math_verify", Grader("math_verify", "1+0.9", "math-verify 0.9 in a worker process, both orders.", _math_verify)
)
GRADERS.add("string", Grader("string", "2", "Equal as strings after LaTeX normalisation.", _string))
