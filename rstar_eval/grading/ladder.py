"""The default grader: a ladder of rules, cheap and exact first. Each decides or passes on.

1 exact        the same characters
2 spelling     the same tokens: spacing, \\dfrac and \\frac, \\left, brackets, degree signs, delimiters don't matter
3 empty        no prediction: "no_answer"
4 limit        the prediction is over a cap: wrong; the reference is: grader_error
5 words        the same words: letter case, spaces and punctuation don't matter; yes and no with an explanation
6 structure    typed values, compared in full (number, expression, percent, unit, base, list, tuple, set, interval,
               equation, inequality, matrix, choice, time, ratio): see `compare`
7 symbolic     what no rule above can read: math-verify and sympy in a worker process (see `pool`), else "wrong"
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rstar_eval.grading.compare import same
from rstar_eval.grading.fingerprint import Undecided, rational
from rstar_eval.grading.limits import TOLERANCE, Tolerance
from rstar_eval.grading.qualifiers import agree
from rstar_eval.grading.read import Reading, read
from rstar_eval.grading.types import Verdict
from rstar_eval.grading.values import Choice, Clock, Either, Equation, Expr, Items, Labelled, Opaque, Value, Words
from rstar_eval.grading.words import leading_yes_no

LIST_TASKS = frozenset(["collegemath", "college_math"])
"""Tasks whose references never set thousands apart: there `110,880` is two numbers."""

_SPACES = re.compile(r"(?<!\d)[ ~]+|[ ~]+(?!\d)")
_PERSON = re.compile(r"[A-Z](?=[a-z]*[aeiouy])[a-z]{2,}")  # Bob, Jie: too short for the reader to tell from a product
_EXACT = Verdict("correct", "exact")
_SPELLING = Verdict("correct", "spelling")
_EMPTY = Verdict("no_answer", "empty")


class Passed(NamedTuple):
    """No rule in this process decides; the two readings go to the symbolic stage."""

    gold: Reading
    pred: Reading


def decide(gold: str, pred: str, task: str | None = None, tolerance: Tolerance = TOLERANCE) -> Verdict | Passed:
    """Run the ladder up to, not including, the symbolic stage.

    Terminates soon for any input (see `limits`); raises nothing for what the texts contain.
    """
    if gold == pred:
        return _EXACT if pred.strip() else _EMPTY
    separators = task not in LIST_TASKS
    return decide_readings(read(gold, separators), read(pred, separators), tolerance)


def decide_readings(want: Reading, have: Reading, tolerance: Tolerance = TOLERANCE) -> Verdict | Passed:
    """Run rules 2 to 6 on two answers that are read already."""
    if want.limit:
        return Verdict("grader_error", f"limit.{want.limit}", f"the reference is over the cap on {want.limit}")
    if have.limit:
        return Verdict("wrong", f"limit.{have.limit}")
    if not have.spelling:
        return _EMPTY
    if want.spelling == have.spelling:
        return _SPELLING
    if _glued(want.normal) == _glued(have.normal):
        return _SPELLING
    return _structure(want, have, tolerance)


def _glued(text: str) -> str:
    """Without spaces, except between digits: `137 1/2` is not `1371/2`."""
    return _SPACES.sub("", text)


def _structure(want: Reading, have: Reading, tolerance: Tolerance) -> Verdict | Passed:
    worded = any(isinstance(value, Words) for value in (*want.values, *have.values))
    if (worded or _PERSON.fullmatch(want.normal)) and _same_words(want, have):
        return Verdict("correct", "words")
    if not agree(want.qualifier, have.qualifier):
        return Verdict("wrong", "qualifier")
    undecided: Undecided | None = None
    for gold in want.values:
        for pred in have.values:
            try:
                if same(gold, pred, tolerance):
                    rule = rule_of(gold, pred)  # a ratio for a fraction, say: the prediction's kind names the rule
                    return Verdict("correct", rule_of(pred, gold) if rule == "kind" else rule)
            except Undecided as error:
                undecided = error
            except RecursionError:
                return Verdict("wrong", "limit.nesting")
    if _choice_with_text(want, have, tolerance):
        return Verdict("correct", "choice")
    if undecided is not None:
        if undecided.limit:
            return Verdict("wrong", f"limit.{undecided.limit}")
        if not any(isinstance(value, Words) for value in (*want.values, *have.values)):
            return Passed(want, have)
    return Verdict("wrong", rule_of(want.values[-1], have.values[-1]) if want.values and have.values else "spelling")


def _same_words(want: Reading, have: Reading) -> bool:
    if len(want.letters) > 1 and want.letters == have.letters:
        return True
    one, other = want.letters, have.letters
    stated, given = leading_yes_no(want.normal), leading_yes_no(have.normal)
    return (bool(given) and one == given) or (bool(stated) and other == stated)


def _choice_with_text(want: Reading, have: Reading, tolerance: Tolerance) -> bool:
    """An option given by its text on one side: `(B) 12` against `12`."""
    for side, other, flipped in ((want, have, False), (have, want, True)):
        for value in side.values:
            if isinstance(value, Choice) and value.text and not any(isinstance(item, Choice) for item in other.values):
                text = read(value.text)
                if text.spelling == other.spelling or (text.letters == other.letters and len(text.letters) > 1):
                    return True
                one, two = (other.values, text.values) if flipped else (text.values, other.values)
                try:
                    if any(same(gold, pred, tolerance) for gold in one for pred in two):
                        return True
                except Undecided:
                    continue
    return False


def rule_of(gold: Value, pred: Value) -> str:
    """Name the rule of the structural stage that compared two values."""
    if isinstance(gold, Either):
        return rule_of(gold.options[0], pred)
    if isinstance(pred, Either):
        return rule_of(gold, pred.options[0])
    if isinstance(gold, Labelled):
        also = isinstance(pred, Equation) or (isinstance(pred, Labelled) and pred.equation is not None)
        return "equation" if gold.equation is not None and also else rule_of(gold.value, pred)
    if isinstance(pred, Labelled):
        return rule_of(gold, pred.value)
    if isinstance(gold, Expr) and isinstance(pred, Expr):
        if gold.base or pred.base:
            return "base"
        if gold.percent or pred.percent:
            return "percent"
        if gold.unit or pred.unit:
            return "unit"
        return "number" if rational(gold.node) is not None and rational(pred.node) is not None else "value"
    if isinstance(gold, Items):
        return gold.kind
    if isinstance(gold, Clock):
        return "time"
    if isinstance(gold, Opaque):
        return "spelling"
    if type(gold) is not type(pred) and isinstance(gold, Expr):
        return "kind"
    return {"RealSet": "interval"}.get(type(gold).__name__, type(gold).__name__.lower())
