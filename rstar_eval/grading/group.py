"""Classes of equivalent answers, for votes and self-consistency."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from rstar_eval.grading.canonical import key_of
from rstar_eval.grading.graders import symbolic_verdict
from rstar_eval.grading.ladder import Passed, decide_readings
from rstar_eval.grading.read import Reading, read
from rstar_eval.grading.values import Expr


def group_answers(answers: Sequence[str], *, symbolic: bool = True) -> list[int]:
    """Map answers to class numbers 0..m-1 in order of first appearance: equivalent answers get the same number.

    Each answer is read once. Equal spellings and equal canonical keys join at once; only then an answer is compared
    with
    the first member of each class that is left, both ways round, since a vote knows no reference. Blank answers are one
    class. symbolic: whether comparisons that no rule decides may go to the worker processes.
    """
    classes: list[int] = []
    spellings: dict[str, int] = {}
    keys: dict[Hashable, int] = {}
    leaders: list[tuple[str, Reading, Hashable]] = []
    for answer in answers:
        if answer in spellings:
            classes.append(spellings[answer])
            continue
        reading = read_vote(answer)
        key = key_of(reading)
        number = spellings.get(reading.spelling)
        if number is None and key is not None:
            number = keys.get(key)
        if number is None:
            number = _matching(answer, key, leaders, symbolic)
        if number is None:
            number = len(leaders)
            leaders.append((answer, reading, key))
        spellings.setdefault(answer, number)
        spellings.setdefault(reading.spelling, number)
        if key is not None:
            keys.setdefault(key, number)
        classes.append(number)
    return classes


def _matching(
    answer: str, key: Hashable, leaders: Sequence[tuple[str, Reading, Hashable]], symbolic: bool
) -> int | None:
    for number, (leader, _, other) in enumerate(leaders):
        if key is not None and other is not None and _plain_number(key) and _plain_number(other):
            continue  # two different exact numbers
        if equivalent(leader, answer, symbolic=symbolic):
            return number
    return None


def _plain_number(key: Hashable) -> bool:
    """Whether a key is that of a rational number without unit or percent sign."""
    if not isinstance(key, tuple) or key[0] != "expr":
        return False
    _, node, unit, percent = key
    return unit is None and not percent and isinstance(node, tuple) and isinstance(node[0], int)


def equivalent(left: str, right: str, *, symbolic: bool = True) -> bool:
    """Whether two answers agree both ways round by the default ladder, 25% being 25. Symmetric."""
    if not left.strip() or not right.strip():
        return left.strip() == right.strip()
    one, other = read_vote(left), read_vote(right)
    for gold, pred in ((one, other), (other, one)):
        verdict = decide_readings(gold, pred)
        if isinstance(verdict, Passed):
            if not symbolic or symbolic_verdict(verdict, None)[0].outcome != "correct":
                return False
        elif verdict.outcome != "correct":
            return False
    return True


def read_vote(answer: str) -> Reading:
    """Read an answer without its percent sign: with no reference, 25% must not join both 25 and 0.25."""
    reading = read(answer)
    values = tuple(replace(value, percent=False) if isinstance(value, Expr) else value for value in reading.values)
    return replace(reading, values=values)
