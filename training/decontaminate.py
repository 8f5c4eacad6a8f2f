"""Does training text contain test questions? Exact matches and shared n-grams, with what matches shown.

Texts are compared as words: lower case, LaTeX commands and signs as words of their own, blanks and dollars ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rstar_eval.errors import UserError

_WORD = re.compile(r"\\[a-z]+|[a-z]+|\d+|[^\s\w$]")


@dataclass(frozen=True, slots=True)
class Match:
    """A test question that training text shares words with.

    task, index, problem: the test question. training: the training problem with the longest overlap. exact: whether
    both are the same words. share: of the test question's n-grams, how many occur in that training problem (0 to 1).
    text: the longest run of words that both have.
    """

    task: str
    index: int
    problem: str
    training: str
    exact: bool
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared and what matched, the worst first. short: test questions with fewer words than n, which can
    only match exactly."""

    n: int
    training: int
    tested: int
    short: int
    matches: tuple[Match, ...]

    @property
    def exact(self) -> int:
        """Test questions that are in the training text word for word."""
        return sum(one.exact for one in self.matches)

    def machine(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "exact": self.exact, "matches": [asdict(one) for one in self.matches]}


def words(text: str) -> list[str]:
    """Return a text as the words that are compared.

    >>> words("What is $\\\\frac{1}{2}$ of 10?")
    ['what', 'is', '\\\\frac', '{', '1', '}', '{', '2', '}', 'of', '10', '?']
    """
    return _WORD.findall(text.lower())


def decontaminate(
    training: Mapping[str, str], tests: Iterable[tuple[str, int, str, str]], *, n: int = 8, least: float = 0.0
) -> Report:
    """Compare training questions (by name) with test questions (task, index, id, text).

    n: words of an n-gram. least: n-gram matches with a smaller share are left out (exact ones never). UserError for n
    below 1 or a share outside 0 to 1.
    """
    if n < 1:
        raise UserError(f"n is {n}", "give at least 1")
    if not 0 <= least <= 1:
        raise UserError(f"the least share is {least}", "give a number from 0 to 1")
    texts = {name: words(text) for name, text in training.items()}
    whole: dict[tuple[str, ...], str] = {}
    grams: dict[tuple[str, ...], list[str]] = {}
    for name, sequence in texts.items():
        whole.setdefault(tuple(sequence), name)
        for gram in dict.fromkeys(_grams(sequence, n)):
            grams.setdefault(gram, []).append(name)
    matches: list[Match] = []
    tested = short = 0
    for task, index, problem, text in tests:
        tested += 1
        sequence = words(text)
        mine = list(dict.fromkeys(_grams(sequence, n)))
        short += not mine
        same = whole.get(tuple(sequence))
        hits: dict[str, int] = {}
        for gram in mine:
            for name in grams.get(gram, ()):
                hits[name] = hits.get(name, 0) + 1
        if same is not None:
            matches.append(Match(task, index, problem, same, True, 1.0, " ".join(sequence)))
        elif hits:
            name = max(hits, key=lambda name: (hits[name], name))
            share = hits[name] / len(mine)
            if share >= least:
                common = longest_common(sequence, texts[name])
                matches.append(Match(task, index, problem, name, False, round(share, 4), " ".join(common)))
    matches.sort(key=lambda one: (not one.exact, -one.share, one.task, one.index))
    return Report(n, len(texts), tested, short, tuple(matches))


def longest_common(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return the longest run of words that both texts have (the first of equal ones in `one`)."""
    best, end = 0, 0
    row = [0] * (len(other) + 1)
    for i, word in enumerate(one, start=1):
        before = 0
        for j, there in enumerate(other, start=1):
            before, row[j] = row[j], before + 1 if word == there else 0
            if row[j] > best:
                best, end = row[j], i
    return list(one[end - best : end])


def _grams(sequence: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return (tuple(sequence[at : at + n]) for at in range(len(sequence) - n + 1))
