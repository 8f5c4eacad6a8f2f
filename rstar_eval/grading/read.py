"""Reading: an answer as written to the values that it can mean.

A text may have several readings (`(2, 3)` is a point or an interval, `48,384` a number or two): comparison tries them
against those of the other side. Nothing here raises for odd input: what can't be read is `Words` or `Opaque`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rstar_eval.grading import tree
from rstar_eval.grading.brackets import as_set, bracketed, enclosed, matrix, matrix_value, printed, split, union
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.labels import PREFIX, is_label, label_of
from rstar_eval.grading.latex import normal_form
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.parse import parse
from rstar_eval.grading.relations import complement, intersect, ordered, solve_chain
from rstar_eval.grading.rewrite import join_thousands, large_numbers, split_joined
from rstar_eval.grading.tokens import Token, spelled, tokenise
from rstar_eval.grading.tree import Node
from rstar_eval.grading.units import DEGREE, split_unit
from rstar_eval.grading.values import Either, Equation, Expr, Items, Labelled, Opaque, Ratio, RealSet, Value, Words
from rstar_eval.grading.words import choice, clock, compact, is_wordy, phrase, plain_text, words_of

_INTEGER = re.compile(r"(?<![\d.,\w])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_WHOLE_SETS = frozenset(["setZ", "setN"])
_ZERO_GROUP = re.compile(r"\d,0\d\d")
_SPACED = re.compile(r"-?[1-9]\d{0,2}(?:[ ~]\d{3})+(?:\.\d+)?")
_RELATIONS = ("<", "<=", ">", ">=", "!=")
_IN_BASE = re.compile(
    r"(-?[0-9][0-9A-Z]*(?:\.[0-9A-Z]+)?)(?:_(?:base)?|(?:in)?base)(-?\d{1,3}|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)",
    re.IGNORECASE,
)
_BASE_WORDS = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "sixteen"],
        (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16),
        strict=True,
    )
)
_ANGLES = frozenset(["sin", "cos", "tan", "cot", "sec", "csc", "sqrt", "arcsin"])
_FLAT_SUM = re.compile(r"[+-]?\d{1,20}(?:[+-]\d{1,20})*+")
_TERM = re.compile(r"[+-]?\d+")
_CACHED_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Reading:
    """All that comparison needs of one text. `spelling`: its tokens without spaces; `letters`: casefolded without
    spaces and marks; `values`: what it can mean, likeliest first; `limit`: the cap that it is over, or ""."""

    normal: str
    spelling: str
    letters: str
    values: tuple[Value, ...]
    limit: str = ""


def read(text: str, separators: bool = True) -> Reading:
    """Read an answer. separators: whether `1,234` may be one number (else it is a list)."""
    return _cached(text, separators) if len(text) <= _CACHED_LENGTH else _read(text, separators)


def _read(text: str, separators: bool) -> Reading:
    if len(text) > LIMITS.characters and len(text) <= LIMITS.flat_sum and _FLAT_SUM.fullmatch(text):
        return Reading("", text, "", (Expr(tree.number(sum(map(int, _TERM.findall(text))))),))
    try:
        normal = normal_form(text)
        tokens = split_joined(tokenise(normal))
        values = _values(normal, tokens, separators)
    except LimitExceeded as error:
        return Reading("", text, "", (), error.limit)
    return Reading(normal, spelled(tokens), compact(plain_text(tokens)), values)


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
    if not (option is not None and option.text):
        found.append(value_of(tokens))
    if any(isinstance(value, Words | Opaque) for value in found):
        tail = _tail(tokens)
        if tail is not None:
            found.append(tail)
    return tuple(found)


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
    if any(token.value in _RELATIONS or token.value in ("=", "approx") for token in tokens[:start]):
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
    for separators, kind in ((";",), ","), (("or",), "or"), ((",", "and", "&"), ","):
        pieces = [piece for piece in split(tokens, *separators) if piece]
        if len(pieces) > 1 and _says_whole(pieces[-1]):
            pieces = pieces[:-1]
            if len(pieces) == 1:
                return value_of(pieces[0])
        if len(pieces) > 1:
            if is_wordy([token for token in tokens if token.value != ","]) and kind != ",":
                break
            word = "or" if kind == "or" else "and" if any(token.value in ("and", "&") for token in tokens) else ","
            return _collect([value_of(piece) for piece in pieces], word, tokens)
    return _piece(tokens)


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
    while tokens and tokens[-1].value in (".", ",", ";", ":") and tokens[-1].kind == "sign":
        tokens = tokens[:-1]
    letters = ""
    for index, token in enumerate(tokens):
        if token.kind != "name":
            if index and len(letters) > 4 and PREFIX.fullmatch(letters):
                return tokens[index + (token.value in (":", "=")) :]
            break
        letters += token.value.casefold()
    while tokens and tokens[0].value in (",", ".", "approx", ":") and len(tokens) > 1:
        tokens = tokens[1:]
    return tokens


def _collect(values: list[Value], word: str, tokens: Sequence[Token]) -> Value:
    """Put together what commas, `and` or `or` join."""
    sets = [as_set(value) if isinstance(value, RealSet) else None for value in values]
    if all(sets):
        return _join_sets([item for item in sets if item], word)
    if all(isinstance(value, Words) for value in values):
        return words_of(tokens)
    flat: list[Value] = []
    for value in values:
        flat.extend(value.items if isinstance(value, Items) and value.kind == "list" else [value])
    first = flat[0]
    labels = [value.label if isinstance(value, Labelled) else "" for value in flat]
    if isinstance(first, Labelled) and all(label in ("", first.label) for label in labels):
        items = [value.value if isinstance(value, Labelled) else value for value in flat]
        spread = [
            part
            for item in items
            for part in (item.items if isinstance(item, Items) and item.kind == "list" else (item,))
        ]
        return Labelled(first.label, Items("list", tuple(spread)))
    if all(labels) and len(set(labels)) == len(labels) and word != "or":
        return Items("tuple", tuple(flat))
    if isinstance(first, RealSet) and len(first.parts) == 2 and first.parts[0].high == first.parts[1].low:
        points = [as_set(Items("set", (value,))) for value in flat[1:]]
        if all(points):
            return _excluded(first, [item for item in points if item])
    return Items("list", tuple(flat))


def _excluded(first: RealSet, points: list[RealSet]) -> Value:
    """`x != -1, 4`: the reals without these points."""
    result: RealSet | None = first
    for item in points:
        other = complement(item)
        result = intersect(result, other) if result and other else None
    return result or first


def _join_sets(sets: list[RealSet], word: str) -> Value:
    merged = RealSet(tuple(part for item in sets for part in item.parts), sets[0].variable)
    if word != "or" and not any(item.variable for item in sets):
        return Items("list", tuple(sets))
    if word == "or" or not all(item.variable for item in sets):
        return merged
    common: RealSet | None = sets[0]
    for item in sets[1:]:
        common = intersect(common, item) if common is not None else None
    if common is None:
        return merged
    if word == "and" and not ordered(common):
        return Items("list", tuple(sets))
    return common if word == "and" or ordered(common) else merged


def _piece(tokens: Sequence[Token]) -> Value:
    """Read tokens without a joining word or comma outside of brackets."""
    tokens = _strip(tokens)
    relations = [token.value for token in tokens if token.value in _RELATIONS or token.value in ("=", "approx", "in")]
    if relations:
        related = _related(tokens)
        if related is not None:
            return related
    side_by_side = _side_by_side(tokens)
    if len(side_by_side) > 1:
        return Items("list", tuple(value_of(piece) for piece in side_by_side))
    made = printed(tokens, value_of) or union(tokens, value_of) or bracketed(tokens, value_of)
    if made is not None:
        return made
    meaning = phrase(compact(plain_text(tokens))) if tokens[0].kind in ("name", "command", "open") else None
    if meaning is not None:
        return meaning
    if is_wordy(tokens):
        return words_of(tokens)
    ratio = split(tokens, ":")
    if len(ratio) > 1 and all(ratio):
        nodes = [_node(part) for part in ratio]
        if all(nodes):
            return Ratio(tuple(node for node in nodes if node))
    return _expression(tokens)


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


def _node(tokens: Sequence[Token]) -> Node | None:
    try:
        return parse(tokens, _printed(tokens))
    except ParseError:
        return None


def _printed(tokens: Sequence[Token]) -> bool:
    return not any(token.kind == "command" or token.text for token in tokens)


def _expression(tokens: Sequence[Token]) -> Value:
    """Read one expression with its unit, percent sign or base."""
    if any(token.value == "begin" for token in tokens):
        return _with_matrix(tokens)
    tokens = large_numbers(tokens)
    number, base = _based(tokens)
    if base is not None:
        return Expr(tree.symbol(number), base=base)
    rest, unit = split_unit(tokens)
    if unit == DEGREE and any(token.value in _ANGLES for token in rest):
        rest, unit = tokens, None
    percent = False
    if unit is not None and unit.parts == frozenset([("percent", 1)]):
        percent, unit = True, None
    if len(rest) > 1 and rest[-1].value == "%":
        rest, percent = rest[:-1], True
    node = _node(rest)
    if node is None and unit is not None:
        rest, unit = tokens, None
        node = _node(tokens)
    if node is None:
        letters = [token for token in tokens if token.kind == "name"]
        wordy = letters and not any(token.kind == "command" for token in tokens)
        return words_of(tokens) if wordy else Opaque(spelled(list(tokens)))
    if tree.has(node, "pm", "mp"):
        return Items("list", tuple(Expr(tree.choose_sign(node, sign), unit, percent) for sign in (1, -1)))
    return Expr(node, unit, percent, None, _digits(rest))


def _digits(tokens: Sequence[Token]) -> int:
    """The significant digits of the longest decimal literal among the tokens; 0 if there is none."""
    found = 0
    for token in tokens:
        if token.kind == "number" and ("." in token.value or "e" in token.value) and "\\" not in token.value:
            found = max(found, len(token.value.lower().partition("e")[0].replace(".", "").lstrip("0")), 1)
    return found


def _based(tokens: Sequence[Token]) -> tuple[str, int | None]:
    """Read 204_5, 204_{five}, 1A3_{16}, 204 (base 5). Returns the digits and the base, or "" and None."""
    if len(tokens) < 3 or not any(token.value == "_" or token.value.casefold().endswith("base") for token in tokens):
        return "", None
    text = "".join(token.value for token in tokens if token.value not in ("{", "}", "(", ")"))
    match = _IN_BASE.fullmatch(text)
    if not match:
        return "", None
    base = match[2].casefold()
    return match[1].lstrip("0") or "0", _BASE_WORDS.get(base) or int(base)


def _with_matrix(tokens: Sequence[Token]) -> Value:
    """A matrix environment, or a sum or multiple of some."""
    terms: list[Node] = []
    sign = 1
    for piece, mark in _signed_pieces(tokens):
        sign = -1 if mark == "-" else 1
        start = next((index for index, token in enumerate(piece) if token.value == "begin"), None)
        if start is None:
            return Opaque(spelled(list(tokens)))
        while start and piece[start - 1].value in ("(", "["):
            start -= 1
        held = matrix(piece[start:])
        factor = _node([token for token in piece[:start] if token.value != "*"]) if start else None
        if held is None or (start and factor is None):
            return Opaque(spelled(list(tokens)))
        term = tree.mul(factor, held) if factor is not None else held
        terms.append(tree.neg(term) if sign < 0 else term)
    value = matrix_value(tree.add(*terms))
    return value if value is not None else Opaque(spelled(list(tokens)))


def _signed_pieces(tokens: Sequence[Token]) -> list[tuple[Sequence[Token], str]]:
    result: list[tuple[Sequence[Token], str]] = []
    mark = "+"
    position = 0
    for piece in split(tokens, "+", "-"):
        if piece:
            result.append((piece, mark))
        position += len(piece) + 1
        mark = tokens[position - 1].value if position - 1 < len(tokens) else "+"
    return result


# relations


def _related(tokens: Sequence[Token]) -> Value | None:
    """Read =, approx, in, and inequalities."""
    member = split(tokens, "in")
    if len(member) == 2 and all(member):
        return _member(member[0], member[1])
    signs, sides = _sides(tokens)
    if not signs:
        return None
    if all(sign in _RELATIONS for sign in signs):
        nodes = [_node(_without_unit(side)) for side in sides]
        if all(nodes):
            return solve_chain([node for node in nodes if node], signs)
        return None
    if any(sign in _RELATIONS for sign in signs) or not all(sides):
        return None
    return _equality(sides, signs)


def _member(name: Sequence[Token], held: Sequence[Token]) -> Value | None:
    """Read `x in S`. None if what stands before isn't a name."""
    if not is_label(name):
        return None
    value = value_of(held)
    inner = as_set(value)
    return RealSet(inner.parts, name[0].value) if inner is not None and len(name) == 1 else value


def _without_unit(tokens: Sequence[Token]) -> Sequence[Token]:
    return split_unit(tokens)[0] if any(token.text for token in tokens) else tokens


def _sides(tokens: Sequence[Token]) -> tuple[list[str], list[Sequence[Token]]]:
    """Split at relation signs outside of brackets."""
    sides = split(tokens, *_RELATIONS, "=", "approx", "equiv")
    signs = []
    position = 0
    for side in sides[:-1]:
        position += len(side)
        signs.append(tokens[position].value)
        position += 1
    return signs, sides


def _equality(sides: Sequence[Sequence[Token]], signs: Sequence[str]) -> Value | None:
    if any(sign == "equiv" for sign in signs):
        return None
    if len(sides) == 2 and not is_label(sides[0]) and is_label(sides[1]) and "=" in signs:
        sides = (sides[1], sides[0])
    if is_label(sides[0]):
        options = [value_of(side) for side in sides[1:]]
        value = options[0] if len(options) == 1 else Either(tuple(options))
        equation = None
        if len(sides) == 2 and isinstance(value, Expr) and value.unit is None and signs[0] == "=":
            left = _node(sides[0])
            equation = Equation(left, value.node) if left is not None else None
        return Labelled(label_of(sides[0]), value, equation)
    nodes = [_node(_without_unit(side)) for side in sides]
    if all(nodes) and len(sides) == 2 and signs[0] == "=" and any(tree.symbols(node) for node in nodes if node):
        return Equation(nodes[0], nodes[1])  # type: ignore[arg-type]
    if all(side for side in sides) and all(nodes) and not any(tree.symbols(node) for node in nodes if node):
        return Either(tuple(value_of(side) for side in sides))
    if len(sides) == 2 and "approx" in signs:
        return Either(tuple(value_of(side) for side in sides))
    return None
