"""Words after an answer that only say what a parameter is: `k\\pi, k in Z`, `f(x) = cx for any real number c`.

A missing one is like a missing unit; an explicitly different one (positive integers against integers) is not the same
answer. Conditions with relations or parities are no qualifiers: they are part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rstar_eval.grading.tokens import Token
from rstar_eval.grading.vocabulary import words

_FILL = frozenset(
    str.split(
        "where with for forall all any every each some arbitrary an a the is are be being of in and both number numbers"
    )
    + str.split("value values constant constants fixed")
)
_DOMAINS = {
    "integer": "integer", "integers": "integer", "whole": "integer", "setZ": "integer", "Z": "integer",
    "real": "real", "reals": "real", "setR": "real", "R": "real", "natural": "natural", "setN": "natural",
    "N": "natural", "rational": "rational", "setQ": "rational", "Q": "rational", "complex": "complex",
    "setC": "complex", "positive": "positive", "negative": "negative", "nonnegative": "nonnegative",
    "nonzero": "nonzero",
}  # fmt: skip
_LONGEST = 20
_STARTS = words("for where forall with any")
_GLUED = re.compile(
    r"(?:for|where|any)(?:for|where|all|any|every|each|some|an|a|is|are|positive|nonnegative|nonzero|(?:real|complex|rational)"
    r"(?:number)?|natural(?:number)?|integer|number|value|constant|s)*[a-z]?"
)
_WORDS = re.compile("positive|nonnegative|nonzero|real|complex|rational|natural|integer")


class Qualifier(NamedTuple):
    """The domains that a qualifier names, and the letters that it binds."""

    domains: frozenset[str]
    letters: frozenset[str]


NONE = Qualifier(frozenset(), frozenset())


def split_qualifier(tokens: Sequence[Token]) -> tuple[Sequence[Token], Qualifier]:
    """Split a trailing qualifier from an answer. Returns all tokens and NONE if there is none."""
    first = max(1, len(tokens) - _LONGEST)
    depth = sum((token.kind == "open") - (token.kind == "close") for token in tokens[:first])
    for index, token in enumerate(tokens[first:], first):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth:
            continue
        start = index + 1 if token.value == "," else index
        found = _read(tokens[start:], token.value == ",")
        if found is not None:
            end = index - 1 if tokens[index - 1].value in (",", ":") and index > 1 else index
            return tokens[:end], found
    return tokens, NONE


def _read(tokens: Sequence[Token], after_comma: bool) -> Qualifier | None:
    """Read tokens as a qualifier, all of them; after a comma `k in Z` is one, elsewhere it needs a word."""
    tokens = [token for token in tokens if token.value not in (",", ".", "{", "}")]
    if not tokens:
        return None
    first = tokens[0]
    membership = after_comma and len(tokens) > 2 and tokens[1].value == "in" and len(first.value) == 1
    if len(tokens) <= 2 and first.kind == "name" and len(first.value) > 5 and _GLUED.fullmatch(first.value):
        letters = {first.value[-1]} if not first.value.endswith(("s", "r")) else set()
        letters |= {token.value for token in tokens[1:]}
        return Qualifier(frozenset(_WORDS.findall(first.value)), frozenset(letters)) if len(letters) < 2 else None
    if not membership and first.value.casefold() not in _STARTS:
        return None
    domains, letters = set(), set()
    for token in tokens:
        word = token.value
        if word in _DOMAINS:
            domains.add(_DOMAINS[word])
        elif (word.casefold() in _FILL and len(word) > 1) or (word == "a" and token.text):
            continue
        elif token.kind == "name" and len(word) == 1:
            letters.add(word)
        else:
            return None
    return Qualifier(frozenset(domains), frozenset(letters)) if domains or letters else None


def agree(one: Qualifier, other: Qualifier) -> bool:
    """Whether two qualifiers name the same domains, or one names none."""
    return not one.domains or not other.domains or one.domains == other.domains
