"""The records of grading: a verdict on one pair, and an answer found in a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "wrong", "no_answer", "grader_error"]


@dataclass(frozen=True, slots=True)
class Grade:
    """One verdict.

    `rule` names the rule of the ladder that decided, `grader` and `version` the grader, `ms` the wall time in
    milliseconds, `detail` the reason of a `grader_error` (else ""). A `grader_error` says nothing on the answer: the
    grader ran out of time or memory, crashed, or couldn't read the reference. It is never counted as "wrong" silently.
    """

    outcome: Outcome
    rule: str
    grader: str
    version: str
    ms: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer found in a text: its `text`, the half-open character range `span` that it occupies there, and the
    extraction `rule` that found it (boxed, tag, hash, anchor, bold, display, plain)."""

    text: str
    span: tuple[int, int]
    rule: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a grader's own function returns: the outcome and the rule, without name, version and time."""

    outcome: Outcome
    rule: str
    detail: str = ""
