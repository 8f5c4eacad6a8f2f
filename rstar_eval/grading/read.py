"""Reading: an answer as written to the values that it can mean.

A text may have several readings (`(2, 3)` is a point or an interval, `48,384` a number or two): comparison tries them
against those of the other side. Nothing here raises for odd input: what can't be read is `Words` or `Opaque`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from rstar_eval.grading import tree
from rstar_eval.grading.brackets import as_set, bracketed, european, union
from rstar_eval.grading.equalities import RELATIONS, related
from rstar_eval.grading.expressions import expression, node_of
from rstar_eval.grading.fingerprint import free
from rstar_eval.grading.joining import collect
from rstar_eval.grading.labels import PREFIX
from rstar_eval.grading.latex import normal_form
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.matrices import system_of, vector_of
from rstar_eval.grading.printed import printed
from rstar_eval.grading.qualifiers import NONE, Qualifier, split_qualifier
from rstar_eval.grading.relations import complement
from rstar_eval.grading.rewrite import join_thousands, plain_call, split_joined, worded_numbers
from rstar_eval.grading.scan import enclosed, split
from rstar_eval.grading.tokens import Token, spelled, tokenise
from rstar_eval.grading.values import Either, Expr, Items, Labelled, Opaque, Ratio, Value, Words
from rstar_eval.grading.words import REALS, choice, clock, compact, is_wordy, phrase, plain_text, words_of

_INTEGER = re.compile(r"(?<![\d.,\w])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_RELATING = frozenset(["=", "approx", "equiv", "in", "mapsto"])
_WHOLE_SETS = frozenset(["setZ", "setN", "Z", "N"])
_ZERO_GROUP = re.compile(r"\d,0\d\d")
_PERIOD = re.compile(r"(\d*?)(?:(\d)\2{2,}|(\d\d)\3{2,}|(\d{3,6})\4+)")
_SPACED = re.compile(r"-?[1-9]\d{0,2}(?:[ ~]\d{3})+(?:\.\d+)?")
_FLAT_SUM = re.compile(r"[+-]?\d{1,20}(?:[+-]\d{1,20})*+")
_TERM = re.compile(r"[+-]?\d+")
_CACHED_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Reading:
    """All that comparison needs of one text. `spelling`: its tokens without spaces; `letters`: casefolded without
    spaces and marks; `values`: what it can mean, likeliest first; `limit`: the cap that it is over, or "";
    `qualifier`: what it says of its parameters (see `qualifiers`)."""

    normal: str
    spelling: str
    letters: str
    values: tuple[Value, ...]
    limit: str = ""
    qualifier: Qualifier = NONE


def read(text: str, separators: bool = True) -> Reading:
    """Read an answer. separators: whether `1,234` may be one number (else it is a list)."""
    return _cached(text, separators) if len(text) <= _CACHED_LENGTH else _read(text, separators)


def _read(text: str, separators: bool) -> Reading:
    if len(text) > LIMITS.characters and len(text) <= LIMITS.flat_sum and _FLAT_SUM.fullmatch(text):
        return Reading("", text, "", (Expr(tree.number(sum(map(int, _TERM.findall(text))))),))
    try:
        normal = normal_form(text)
        tokens = plain_call(split_joined(tokenise(normal)))
        if sum(token.value in RELATIONS or token.value in _RELATING for token in tokens) > LIMITS.relations:
            raise LimitExceeded("relations")
        stated, qualifier = split_qualifier(tokens)
        values = _values(normal, list(stated), separators)
    except LimitExceeded as error:
        return Reading("", text, "", (), error.limit)
    except RecursionError:
        return Reading("", text, "", (), "nesting")
    return Reading(normal, spelled(tokens), compact(plain_text(tokens)), values, "", qualifier)


_cached = lru_cache(maxsize=2048)(_read)


def clear_cache() -> None:
    """Forget the readings kept so far (for measurements)."""
    _cached.cache_clear()


def _values(normal: str, tokens: list[Token], separators: bool) -> tuple[Value, ...]:
    found: list[Value] = []
    if not tokens:
        return ()
    time = clock(plain_text(tokens)) if ":" in normal or len(tokens) < 9 else None
    if time is not None:
        found.append(time)
    option = choice(plain_text(tokens)) if len(normal) < 200 else None
    if option is not None:
        found.append(option)
    if separators and _INTEGER.search(normal):
        joined = join_thousands(tokens)
        if joined is not tokens:
            found.append(value_of(joined))
            if _ZERO_GROUP.search(normal):  # a group with a leading zero can't be an item of a list
                return tuple(found)
    if _SPACED.fullmatch(normal):
        found.append(value_of([Token("number", normal.replace(" ", "").replace("~", "").lstrip("-"))]))
        if normal[0] == "-":
            found = [Expr(tree.neg(item.node)) if isinstance(item, Expr) else item for item in found]
    said = time is not None and any(token.kind == "name" for token in tokens)
    if not (option is not None and option.text) and not said:
        found.append(value_of(tokens))
    endless = _ellipsis(tokens)
    if endless is not None:
        found.append(endless)
    worded = worded_numbers(tokens)
    if worded is not tokens:
        found.append(value_of(worded))
    vector = vector_of(tokens)
    if vector is not None:
        found.append(vector)
    if any(isinstance(value, Words | Opaque) for value in found):
        tail = _tail(tokens)
        if tail is not None:
            found.append(tail)
    return tuple(found)


def _ellipsis(tokens: Sequence[Token]) -> Value | None:
    """`0.333...`, `1.7724538 \\ldots`: the decimal as far as it is written, or with its period repeated for ever."""
    if len(tokens) < 2 or tokens[-1].value not in ("...", "ldots") or tokens[-2].kind != "number":
        return None
    written = tokens[-2].value
    whole, _, places = written.partition(".")
    options = [value_of(tokens[:-1])]
    match = _PERIOD.fullmatch(places)
    if match:
        period = Token("number", rf"{whole}.{match[1]}\overline{{{match[2] or match[3] or match[4]}}}")
        options.append(value_of([*tokens[:-2], period]))
    return Either(tuple(options))


def _tail(tokens: Sequence[Token]) -> Value | None:
    """The mathematics at the end of a sentence: after its last `is`, `are` or colon."""
    depth = 0
    start = None
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if (
            depth == 0
            and index
            and ((token.kind == "name" and token.value in ("is", "are", "equals", "be")) or token.value == ":")
        ):
            start = index + 1
    if start is None or start >= len(tokens) or start < 3:
        return None
    if any(token.value in RELATIONS or token.value in ("=", "approx") for token in tokens[:start]):
        return None
    tail = value_of(tokens[start:])
    return (
        tail
        if not isinstance(tail, Words | Opaque)
        and not any(token.kind == "name" and len(token.value) > 3 for token in tokens[start:])
        else None
    )


def value_of(tokens: Sequence[Token]) -> Value:
    """Read tokens as one value or a collection."""
    tokens = _strip(tokens)
    if not tokens:
        return Words("")
    bar = _either_or(tokens)
    for separators, kind in ((";",), ","), (("or", *bar), "or"), ((",", "and", "&"), ","):
        pieces = [piece for piece in split(tokens, *separators) if piece]
        if len(pieces) > 1 and _says_whole(pieces[-1]):
            pieces = pieces[:-1]
            if len(pieces) == 1:
                return value_of(pieces[0])
        if len(pieces) > 1:
            if is_wordy([token for token in tokens if token.value != ","]) and kind != ",":
                break
            word = "or" if kind == "or" else "and" if any(token.value in ("and", "&") for token in tokens) else ","
            return collect([value_of(piece) for piece in pieces], word, tokens)
    return _piece(tokens)


def _either_or(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The signs that mean `or` here: sympy's `(x < 1) | (x > 2)`, and a union sign between inequalities."""
    for sign in ("|", "cup"):
        pieces = split(tokens, sign)
        if len(pieces) > 1 and all(any(token.value in RELATIONS for token in piece) for piece in pieces):
            return (sign,)
    return ()


def _says_whole(tokens: Sequence[Token]) -> bool:
    """Whether a piece only says that a parameter is whole: `k in Z`."""
    return (
        len(tokens) == 3
        and len(tokens[0].value) == 1
        and tokens[0].kind == "name"
        and tokens[1].value == "in"
        and tokens[2].value in _WHOLE_SETS
    )


def _strip(tokens: Sequence[Token]) -> Sequence[Token]:
    """Remove a leading phrase (`the answer is`), and stray signs at both ends."""
    while tokens and tokens[-1].value in (".", ",", ";", ":", r"\\") and tokens[-1].kind == "sign":
        tokens = tokens[:-1]
    letters = ""
    for index, token in enumerate(tokens):
        if token.kind != "name":
            printed_name = index == 1 and token.value in ("(", ".")
            if index and len(letters) > 4 and PREFIX.fullmatch(letters) and not printed_name:
                return tokens[index + (token.value in (":", "=")) :]
            break
        letters += token.value.casefold()
    while tokens and tokens[0].value in (",", ".", "approx", ":", "=") and len(tokens) > 1:
        tokens = tokens[1:]
    return tokens


def _piece(tokens: Sequence[Token]) -> Value:
    """Read tokens without a joining word or comma outside of brackets."""
    tokens = _strip(tokens)
    if not tokens:  # a second phrase held all that was left: `= the answer is =`
        return Words("")
    if tokens[0].value == "begin" or (tokens[0].value == r"\{" and tokens[1:] and tokens[1].value == "begin"):
        rows = system_of(tokens)
        if rows:
            return collect([_row(row) for row in rows], ",", tokens)
    if any(token.value in RELATIONS or token.value in _RELATING for token in tokens):
        relation = related(tokens, value_of)
        if relation is not None:
            return relation
    said_twice = split(tokens, ":")
    if len(said_twice) == 2 and any(token.value in RELATIONS for token in said_twice[0]) and enclosed(said_twice[1]):
        options = tuple(value_of(part) for part in said_twice)  # 1 < x < 2 : (1, 2)
        if all(as_set(option) for option in options):
            return Either(options)
    side_by_side = _side_by_side(tokens)
    if len(side_by_side) > 1:
        return Items("list", tuple(value_of(piece) for piece in side_by_side))
    made = (
        printed(tokens, value_of)
        or union(tokens, value_of)
        or bracketed(tokens, value_of)
        or _all_but(tokens)
        or european(tokens, value_of)
    )
    if made is not None:
        return made
    if tokens[0].value.isupper() and len(tokens[0].value) == 1 and enclosed(tokens[1:]) == "(":
        point = bracketed(tokens[1:], value_of)
        if isinstance(point, Items) and not any(isinstance(item, Expr) and free(item.node) for item in point.items):
            return point  # A(-1, 0)
    meaning = phrase(compact(plain_text(tokens))) if tokens[0].kind in ("name", "command", "open") else None
    if meaning is not None:
        return meaning
    if is_wordy(tokens):
        return words_of(tokens)
    ratio = split(tokens, ":")
    if len(ratio) > 1 and all(ratio):
        nodes = [node_of(part) for part in ratio]
        if all(nodes):
            return Ratio(tuple(node for node in nodes if node), _looks_like_a_time(tokens))
    return expression(tokens)


def _row(cells: Sequence[Sequence[Token]]) -> Value:
    """A row of a system: an equation over its cells, or a value and the condition under which it holds."""
    if len(cells) == 2 and cells[1] and cells[1][0].value in ("if", "for", "when", "otherwise"):
        return Items("tuple", (value_of(cells[0]), Words(compact(plain_text(cells[1])))))
    return value_of([token for cell in cells for token in cell])


def _looks_like_a_time(tokens: Sequence[Token]) -> bool:
    """Whether `20:34` is a time and no ratio: hours and two digits of minutes that have a common factor."""
    if len(tokens) != 3 or not (tokens[0].value.isdecimal() and tokens[2].value.isdecimal()):
        return False
    if len(tokens[0].value) > 2 or len(tokens[2].value) != 2:
        return False
    hours, minutes = int(tokens[0].value), int(tokens[2].value)
    return hours < 24 and minutes < 60 and gcd(hours, minutes) != 1


def _all_but(tokens: Sequence[Token]) -> Value | None:
    """Read `all real numbers except 3`."""
    for index, token in enumerate(tokens[:-1]):
        if token.kind != "name":
            return None
        if token.value.casefold().endswith(("except", "but", "excluding")):
            words = compact("".join(part.value for part in tokens[: index + 1]))
            held = tokens[index + 2 :] if tokens[index + 1].value == "for" else tokens[index + 1 :]
            value = value_of(held)
            points = as_set(Items("set", (value.value,)) if isinstance(value, Labelled) else value)
            points = points or as_set(Items("set", (value,)))
            if phrase(words.removesuffix("except").removesuffix("but").removesuffix("excluding")) == REALS and points:
                return complement(points)
    return None


def _side_by_side(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Split `(1,2)(3,4)`, tuples without commas between them. Empty if it isn't that."""
    if not tokens or tokens[0].value != "(" or tokens[-1].value != ")":
        return []
    pieces = []
    start = depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            piece = tokens[start : index + 1]
            if enclosed(piece) != "(" or len(split(piece[1:-1], ",")) < 2:
                return []
            pieces.append(piece)
            start = index + 1
    return pieces
