"""One expression with what stands around it: its unit, percent sign, base, decimal digits; sums of matrices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.fingerprint import free
from rstar_eval.grading.matrices import matrix, matrix_value
from rstar_eval.grading.numerals import numeral_value
from rstar_eval.grading.parse import parse
from rstar_eval.grading.rewrite import large_numbers
from rstar_eval.grading.scan import split
from rstar_eval.grading.tokens import Token, spelled
from rstar_eval.grading.tree import Node
from rstar_eval.grading.units import DEGREE, FOOT, HOUR, Unit, split_unit
from rstar_eval.grading.values import Expr, Items, Opaque, Value
from rstar_eval.grading.words import words_of

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
_ANGLES = frozenset(["sin", "cos", "tan", "cot", "sec", "csc", "cis", "sqrt", "arcsin"])
_PRIME_BRACKETS = frozenset(["^", "{", "}"])
# The parts of compound measures: the unit that they are counted in, and their size in the smallest part.
_PARTS: dict[str, tuple[Unit, int]] = {
    "degree": (DEGREE, 3600), "'": (DEGREE, 60), "''": (DEGREE, 1), '"': (DEGREE, 1),
    "feet": (FOOT, 12), "inches": (FOOT, 1), "hours": (HOUR, 3600), "minutes": (HOUR, 60), "seconds": (HOUR, 1),
}  # fmt: skip
_FIRST = {
    "'": "feet", '"': "inches", "''": "inches", "ft": "feet", "foot": "feet", "inch": "inches", "in": "inches",
    "hour": "hours", "hr": "hours", "hrs": "hours", "h": "hours", "minute": "minutes", "min": "minutes",
    "mins": "minutes", "m": "minutes", "second": "seconds", "sec": "seconds", "s": "seconds",
    "degrees": "degree", "deg": "degree",
}  # fmt: skip


def node_of(tokens: Sequence[Token]) -> Node | None:
    """Parse tokens; None if they are no expression."""
    try:
        return parse(tokens, _printed(tokens))
    except ParseError:
        return None


def _printed(tokens: Sequence[Token]) -> bool:
    return not any(token.kind == "command" or token.text for token in tokens)


def expression(tokens: Sequence[Token]) -> Value:
    """Read one expression with its unit, percent sign or base."""
    if any(token.value == "begin" for token in tokens):
        return _with_matrix(tokens)
    tokens = large_numbers(tokens)
    compound = _compound(tokens)
    if compound is not None:
        return compound
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
    node = node_of(rest)
    if node is None and unit is not None:
        rest, unit = tokens, None
        node = node_of(tokens)
    if node is None:
        letters = [token for token in tokens if token.kind == "name"]
        wordy = letters and not any(token.kind == "command" for token in tokens)
        return words_of(tokens) if wordy else Opaque(spelled(list(tokens)))
    if tree.has(node, "pm", "mp"):
        return Items("list", tuple(Expr(tree.choose_sign(node, sign), unit, percent) for sign in (1, -1)))
    return Expr(node, unit, percent, None, _digits(rest), _loose(tokens) if unit is None and not percent else None)


def _loose(tokens: Sequence[Token]) -> tuple[Node, Unit] | None:
    """The number and the unit, if plain letters at the end can be a unit of measurement: `3 h`, `3.6\\frac{m}{s}`."""
    if tokens[0].kind != "number" or not any(token.kind == "name" for token in tokens[-4:]):
        return None
    rest, unit = split_unit(tokens, loose=True)
    if unit is None or not unit.known:
        return None
    node = node_of(rest)
    return None if node is None or free(node) else (node, unit)


def _compound(tokens: Sequence[Token]) -> Expr | None:
    """Read `63^{\\circ}45'`, `5'10"`, `2 hours 30 minutes` in the first unit; None for anything else."""
    if len(tokens) < 4 or tokens[0].kind not in ("number", "sign"):
        return None
    signed = tokens[0].value in ("-", "+")
    marks = [token for token in tokens[signed:] if token.value not in _PRIME_BRACKETS]
    total, unit, last = Fraction(0), None, 10**9
    index = 0
    while index < len(marks):
        if marks[index].kind != "number" or "\\" in marks[index].value or index + 1 >= len(marks):
            return None
        end = index + 2
        while end < len(marks) and marks[end].value == "'" == marks[end - 1].value:
            end += 1
        name = "".join(token.value for token in marks[index + 1 : end])
        found, size = _PARTS.get(name if index and unit == DEGREE else _FIRST.get(name, name), (None, 0))
        if found is None or size >= last or (unit is not None and found != unit):
            return None
        total += numeral_value(marks[index].value) * size
        unit, last, index = found, size, end
    if unit is None or index < 4:
        return None
    largest = max(size for found, size in _PARTS.values() if found == unit)
    value = tree.number(total / largest)
    return Expr(tree.neg(value) if tokens[0].value == "-" else value, unit)


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
    return match[1].upper().lstrip("0") or "0", _BASE_WORDS.get(base) or int(base)


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
        factor = node_of([token for token in piece[:start] if token.value != "*"]) if start else None
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
