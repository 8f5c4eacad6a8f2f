"""Classes of equivalent answers, for votes and self-consistency."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache

from rstar_eval.grading.canonical import key_of
from rstar_eval.grading.graders import symbolic_verdict
from rstar_eval.grading.ladder import Passed, decide_readings
from rstar_eval.grading.read import Reading, read
from rstar_eval.grading.values import Expr

_REMEMBERED_LENGTH = 600  # characters; what is longer is read again each time, so that memory stays bounded


def group_answers(answers: Sequence[str], *, symbolic: bool = True) -> list[int]:
    """Map answers to class numbers 0..m-1 in order of first appearance: equivalent answers get the same number.

    Each answer is read once. Equal spellings and equal canonical keys join at once; only then an answer is compared
    with the first member of each class that is left, both ways round, since a vote knows no reference. Blank answers
    are one class. symbolic: whether comparisons that no rule decides may go to the worker processes.

    Safe in threads. What was compared is remembered: the first call may take long (up to 0.8 s for a pair that needs
    the symbolic stage), so an event loop makes it through `asyncio.to_thread`; asking again is quick.
    """
    classes: list[int] = []
    spellings: dict[str, int] = {}
    keys: dict[Hashable, int] = {}
    leaders: list[tuple[str, Reading, Hashable]] = []
    for answer in answers:
        if answer in spellings:
            classes.append(spellings[answer])
            continue
        reading, key = _read_for_vote(answer)
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
    one, other = sorted((left, right))
    if len(one) + len(other) > _REMEMBERED_LENGTH:
        return _compare(one, other, symbolic)
    return _equivalent(one, other, symbolic)


def _compare(left: str, right: str, symbolic: bool) -> bool:
    if not left.strip() or not right.strip():
        return left.strip() == right.strip()
    one, other = _read_for_vote(left)[0], _read_for_vote(right)[0]
    for gold, pred in ((one, other), (other, one)):
        verdict = decide_readings(gold, pred)
        if isinstance(verdict, Passed):
            if not symbolic or symbolic_verdict(verdict, None)[0].outcome != "correct":
                return False
        elif verdict.outcome != "correct":
            return False
    return True


_equivalent = lru_cache(maxsize=16_384)(_compare)


def _read_for_vote(answer: str) -> tuple[Reading, Hashable]:
    """An answer's reading in a vote and its canonical key."""
    return _remembered(answer) if len(answer) <= _REMEMBERED_LENGTH else _read_and_key(answer)


def _read_and_key(answer: str) -> tuple[Reading, Hashable]:
    reading = read_vote(answer)
    return reading, key_of(reading)


_remembered = lru_cache(maxsize=4_096)(_read_and_key)


def forget() -> None:
    """Forget what was read and compared (for measurements)."""
    _equivalent.cache_clear()
    _remembered.cache_clear()


def read_vote(answer: str) -> Reading:
    """Read an answer without its percent sign: with no reference, 25% must not join both 25 and 0.25."""
    reading = read(answer)
    values = tuple(replace(value, percent=False) if isinstance(value, Expr) else value for value in reading.values)
    return replace(reading, values=values)
