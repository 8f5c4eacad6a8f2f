"""What stands in brackets: intervals, tuples, sets, set-builders, and unions of sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise, product
from math import prod

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.fingerprint import rational
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.matrices import rows_of
from rstar_eval.grading.parse import parse
from rstar_eval.grading.qualifiers import split_qualifier
from rstar_eval.grading.relations import complement, intersect, position
from rstar_eval.grading.scan import PAIRS, enclosed, split
from rstar_eval.grading.tokens import Token, spelled
from rstar_eval.grading.tree import Node, is_infinite
from rstar_eval.grading.values import Expr, Interval, Items, Labelled, Opaque, RealSet, Value
from rstar_eval.grading.words import EMPTY

_DOTS = Opaque("ldots")
_MOST_FILLED = 400
_MOST_SPREAD = 4_000  # values in all the tuples that one with plus-minus stands for
Read = Callable[[Sequence[Token]], Value]


def bracketed(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read tokens that one pair of brackets holds; None if they are no collection (a bracketed expression)."""
    opening = enclosed(tokens)
    if not opening or opening in ("floor", "ceil"):
        return None
    inner = tokens[1:-1]
    closing = tokens[-1].value
    if opening in ("{", r"\{"):
        return _braces(inner, read, opening)
    pieces = split(inner, ",", ";")
    if len(pieces) == 1:
        return _single(inner, opening, closing, read)
    if len(pieces) == 2 and all(pieces):
        low, high = (endpoint(piece) for piece in pieces)
        if low is not None and high is not None and _in_order(low, high):
            half_open = closing != PAIRS[opening]
            if half_open or is_infinite(low) or is_infinite(high):
                return RealSet((Interval(low, high, opening == "[", closing == "]"),))
    if closing != PAIRS[opening]:
        return Opaque(spelled(list(tokens)))
    if opening == "[" and all(enclosed(piece) == "[" for piece in pieces) and len(pieces) > 1:
        matrix = rows_of([split(piece[1:-1], ",") for piece in pieces])
        if matrix is not None:
            return matrix
    values = tuple(read(piece) for piece in pieces if piece)
    if any(isinstance(value, Items) and value.kind == "list" for value in values):
        return _spread(values)
    return Items("tuple" if opening in ("(", "<") else "bracket", tuple(filled_in(list(values))))


def _spread(values: tuple[Value, ...]) -> Value:
    """A tuple with plus-minus inside: all the tuples that it stands for. LimitExceeded if they are too many."""
    choices = [value.items if isinstance(value, Items) and value.kind == "list" else (value,) for value in values]
    if prod(map(len, choices)) * len(values) > _MOST_SPREAD:
        raise LimitExceeded("items")
    rows = product(*choices)
    return Items("list", tuple(Items("tuple", row) for row in rows))


def _single(inner: Sequence[Token], opening: str, closing: str, read: Read) -> Value | None:
    if closing != PAIRS.get(opening) or not inner:
        return Items("bracket", ()) if opening == "[" and not inner else None
    if opening == "[" and inner[0].kind == "open":
        value = read(inner)
        if isinstance(value, Items | RealSet):
            return value if not isinstance(value, Items) or value.kind != "bracket" else None
        return None if isinstance(value, Expr) else value
    if opening == "[" and any(token.value == ":" for token in inner):
        return read(inner)
    value = read(inner)
    return None if isinstance(value, Expr) else value


def endpoint(tokens: Sequence[Token]) -> Node | None:
    """Read the end of an interval; None if it is no expression."""
    try:
        return parse(tokens, True)
    except ParseError:
        return None


def _braces(inner: Sequence[Token], read: Read, opening: str) -> Value | None:
    if not inner:
        return EMPTY
    bars = split(inner, "|", ":") if not any(token.value == "," for token in inner) or opening == r"\{" else [inner]
    items = split(inner, ",")
    pairs = [len(split(piece, ":")) == 2 for piece in items]
    if any(pairs) and (opening == "{" or (len(items) > 1 and all(pairs))):
        return _mapping(inner, read)
    if len(bars) == 2 and all(bars) and any(token.kind == "name" for token in bars[0]):
        _, qualifier = split_qualifier([Token("sign", ","), Token("sign", ","), *bars[1]])
        if qualifier.domains and len(bars[0]) > 1 and not any(token.value == "in" for token in bars[0]):
            return Items("set", (read(bars[0]),))
        condition = read(bars[1])
        name = next(token.value for token in bars[0] if token.kind == "name")
        if isinstance(condition, RealSet) and condition.variable in ("", name):
            return RealSet(condition.parts)
        return Opaque(spelled(list(inner))) if isinstance(condition, RealSet) else condition
    pieces = split(inner, ",", ";")
    held = [read(piece) for piece in pieces]  # once: reading twice would double the time with every level
    first = held[0]
    if len(held) == 1 and (opening == "{" or (isinstance(first, RealSet) and first.variable)):
        return None if isinstance(first, Expr) else first
    values: list[Value] = []
    for value in held:
        values.extend(value.items if isinstance(value, Items) and value.kind == "list" else [value])
    values = filled_in(values)
    labels = [value.label if isinstance(value, Labelled) else "" for value in values]
    distinct = all(labels) and len(set(labels)) == len(labels) > 1
    return Items("tuple" if distinct else "set", tuple(values))


def filled_in(values: list[Value]) -> list[Value]:
    """The values of `1, 2, ..., 6` with the ones that the dots stand for; others as they are."""
    dots = next((index for index, value in enumerate(values) if value == _DOTS), 0)
    if not 0 < dots < len(values) - 1:
        return values
    numbers = [rational(value.node) if isinstance(value, Expr) else None for value in values]
    before, last = numbers[:dots], numbers[dots + 1]
    steps = {after - one for one, after in pairwise(before) if one is not None and after is not None} or {Fraction(1)}
    start, step = before[-1], min(steps)
    if None in before or start is None or last is None or len(steps) > 1 or not step:
        return values
    count = (last - start) / step
    if count.denominator != 1 or not 0 < count <= _MOST_FILLED:
        return values
    between: list[Value] = [Expr(tree.number(start + step * index)) for index in range(1, int(count))]
    return [*values[:dots], *between, *values[dots + 1 :]]


def _mapping(inner: Sequence[Token], read: Read) -> Value:
    """A printed dictionary {x: 2, y: 4}."""
    found: list[Value] = []
    for piece in split(inner, ","):
        key, _, *rest = (*split(piece, ":"), (), ())
        value = piece[len(key) + 1 :] if rest else piece
        found.append(Labelled(spelled(list(key)), read(value)))
    return found[0] if len(found) == 1 else Items("tuple", tuple(found))


def european(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read intervals with the brackets turned out, `]-\\infty, -8[ \\cup [8, 9[`."""
    if tokens[0].value != "]" and tokens[-1].value != "[":
        return None
    turned: list[Token] = []
    inside = False
    for token in tokens:
        if token.value in ("[", "]"):
            outward = token.value == ("[" if inside else "]")
            value = (")" if outward else "]") if inside else ("(" if outward else "[")
            turned.append(Token("close" if inside else "open", value, token.spaced))
            inside = not inside
        else:
            turned.append(token)
    return None if inside else read(turned)


# sets of reals


def union(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read unions, intersections and differences of sets."""
    pieces = split(tokens, "cup", "U") if any(token.value in ("cup", "U") for token in tokens) else [tokens]
    if len(pieces) > 1 and all(pieces):
        if not all(piece[0].kind in ("open", "command") or piece[-1].kind == "close" for piece in pieces):
            return None
        values = [read(piece) for piece in pieces]
        sets = [point_set(value, piece) for value, piece in zip(values, pieces, strict=True)]
        if all(sets):
            return RealSet(tuple(part for item in sets if item for part in item.parts))
        if all(isinstance(value, Items) for value in values):
            return Items("set", tuple(item for value in values if isinstance(value, Items) for item in value.items))
        return None
    for sign in ("cap", "setminus", "-"):
        pieces = split(tokens, sign)
        if len(pieces) == 2 and all(pieces) and (sign != "-" or pieces[0][-1].value in ("setR",)):
            left, right = as_set(read(pieces[0])), as_set(read(pieces[1]))
            if left is None or right is None:
                return None
            other = right if sign == "cap" else complement(right)
            return None if other is None else intersect(left, other)
    return None


def point_set(value: Value, tokens: Sequence[Token]) -> RealSet | None:
    """What was read from tokens as a set of reals; `{4}` is one point, not a bracketed number."""
    if isinstance(value, Expr) and enclosed(tokens) == "{":
        value = Items("set", (value,))
    return as_set(value)


def as_set(value: Value) -> RealSet | None:
    """Read a value as a set of reals where it can be one: (a, b) and [a, b] as intervals, {a} as points."""
    if isinstance(value, RealSet):
        return value
    if isinstance(value, Interval):
        return RealSet((value,))
    if isinstance(value, Items):
        nodes = [item.node for item in value.items if isinstance(item, Expr) and item.unit is None]
        if len(nodes) != len(value.items):
            return None
        if value.kind in ("set", "list"):
            return RealSet(tuple(Interval(node, node, True, True) for node in nodes))
        closed = value.kind == "bracket"
        if len(nodes) == 2 and (_in_order(nodes[0], nodes[1]) or (closed and nodes[0] == nodes[1])):
            return RealSet((Interval(nodes[0], nodes[1], closed, closed),))
    return None


def _in_order(low: Node, high: Node) -> bool:
    """Whether two ends may be those of an interval: not known to be out of order."""
    one, other = position(low), position(high)
    return one is None or other is None or bool(one < other)
