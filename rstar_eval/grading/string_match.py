"""The `string` grader: equal characters after normalisation, nothing else."""

from __future__ import annotations

from rstar_eval.grading.latex import normal_form
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.types import Verdict


def decide_string(gold: str, pred: str) -> Verdict:
    """Compare the string normal forms without spaces. A text over a cap is compared as it stands."""
    if gold == pred:
        return Verdict("correct", "exact")
    try:
        one, other = (normal_form(text).replace(" ", "").replace("~", "") for text in (gold, pred))
    except LimitExceeded as error:
        return Verdict("wrong", f"limit.{error.limit}")
    return Verdict("correct" if one == other else "wrong", "string")
