"""Names that an answer may carry in front: x =, f(x) =, P(A) =, \\angle ABC =, (x, y) =, "the answer is"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rstar_eval.grading.scan import closing_index, enclosed, split
from rstar_eval.grading.tokens import Token, spelled
from rstar_eval.grading.vocabulary import GREEK
from rstar_eval.grading.words import compact

PREFIX = re.compile(
    r"(the|our|so|hence|thus|therefore|final|correct|required|only|desired)*(answer|solution|result|value|root|point|vector|interval|orderedpair|orderedtriple|coordinate)s?(set)?"
    r"(is|are|equals)?"
)
_DERIVATIVE = re.compile(r"\{d(?:\^(?:2|\{2\}))?[a-z]\}\{d[a-z](?:\^(?:2|\{2\}))?\}")
_GLUED_SENTENCE = re.compile(r"[A-Z][a-z]{4,}(?:is|are)([a-z])")
_FUNCTIONS = frozenset("fghFGH")


def is_label(tokens: Sequence[Token]) -> bool:
    """Whether tokens are a name: x, x_1, y', f(x), f^{-1}(x), dy/dx, P(A), \\angle ABC, |AB|, AB, (x, y), Area."""
    tokens = _without_mark(tokens)
    tokens = [token for token in tokens if token.value not in ("angle", "triangle", "'") or token.kind == "name"]
    if enclosed(tokens) == "{":
        tokens = tokens[1:-1]
    parts = split(tokens, ":")
    if len(parts) > 1:
        return all(part and is_label(part) for part in parts)
    if not tokens or len(tokens) > 24:
        return False
    if tokens[0].value == "|" and tokens[-1].value == "|" and len(tokens) == 3:
        return tokens[1].kind == "name" and tokens[1].value.isupper()
    if enclosed(tokens) == "(":
        return all(
            (len(piece) == 1 and (piece[0].kind == "name" or piece[0].value == "ldots")) or _subscripted(piece)
            for piece in split(tokens[1:-1], ",")
        )
    if enclosed(tokens) == "[":
        return len(tokens) == 3 and tokens[1].kind == "name" and tokens[1].value.isupper()  # the area [ABC]
    if tokens[0].value == "frac":
        top = tokens[1 : closing_index(tokens, 1) + 1]
        bottom = tokens[1 + len(top) :]
        if _DERIVATIVE.fullmatch("".join(token.value for token in tokens[1:])):
            return True
        return all(enclosed(part) == "{" and is_label(part[1:-1]) for part in (top, bottom))
    if tokens[0].kind != "name":
        return False
    if len(tokens) == 1 or _subscripted(tokens):
        return (
            len(tokens[0].value) == 1
            or tokens[0].value in GREEK
            or tokens[0].value.isupper()
            or len(tokens[0].value) > 3
            or tokens[0].text
        )
    if enclosed(tokens[1:]) == "(" and len(tokens[0].value) == 1:
        return tokens[0].value in "fghFGHPpyEvsVSraTuNCLRQMqwz" and (
            tokens[0].value in "PE"
            or all(token.kind == "name" or token.value in "(,)" or token.kind == "number" for token in tokens[1:])
        )
    if tokens[1].value == "_" and tokens[-1].value == ")":
        cut = next((index for index, token in enumerate(tokens) if token.value == "("), 0)
        return cut > 0 and _subscripted(tokens[:cut])
    return all(token.kind == "name" and (len(token.value) > 1 or token.text) for token in tokens)


def _without_mark(tokens: Sequence[Token]) -> Sequence[Token]:
    """A function's name without the -1 of its inverse or the primes of its derivatives; an angle's without m."""
    if len(tokens) < 3 or tokens[0].kind != "name" or len(tokens[0].value) > 1:
        return tokens
    if tokens[0].value == "m" and tokens[1].value == "angle":
        return tokens[1:]
    if tokens[1].value != "^" or tokens[2].value != "{":
        return tokens
    end = closing_index(tokens, 2)
    mark = "".join(token.value for token in tokens[3:end])
    inverse = mark == "-1" and tokens[0].value in _FUNCTIONS
    return [tokens[0], *tokens[end + 1 :]] if inverse or mark.strip("'") == "" else tokens


def _subscripted(tokens: Sequence[Token]) -> bool:
    if len(tokens) < 3 or tokens[0].kind != "name" or tokens[1].value != "_":
        return False
    return len(tokens) == 3 or enclosed(tokens[2:]) == "{"


def after_is(tokens: Sequence[Token]) -> Sequence[Token]:
    """The name at the end of a sentence (`The mode is x`, `Themodeisx`), or all tokens if they are no sentence."""
    if len(tokens) == 1:
        match = _GLUED_SENTENCE.fullmatch(tokens[0].value) if tokens[0].kind == "name" else None
        return [Token("name", match[1])] if match else tokens
    last = max((index for index, token in enumerate(tokens) if token.value in ("is", "are")), default=0)
    sentence = last > 1 and all(token.kind == "name" for token in tokens[:last])
    return tokens[last + 1 :] if sentence and is_label(tokens[last + 1 :]) else tokens


def label_of(tokens: Sequence[Token]) -> str:
    """The spelling of a name; "" for words that name no variable."""
    words = compact("".join(token.value for token in tokens))
    return (
        ""
        if PREFIX.fullmatch(words) and len(words) > 4
        else spelled([token for token in tokens if token.value not in ("angle", "|")])
    )
