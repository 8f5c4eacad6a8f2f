"""Rewriting of tokens before they are read: thousands, numbers in words, words that lost their spaces, prefixes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rstar_eval.grading.number_words import number_in_words
from rstar_eval.grading.scan import closing_index
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.vocabulary import FUNCTIONS

_JOINED = re.compile(r"([A-Za-z]?)(and|or)([A-Za-z]?)")
_MODULES = frozenset(["math", "cmath", "np", "numpy", "sp", "sympy", "mpmath"])
_LONGEST_NUMBER = 12
_LARGE = {"thousand": "1000", "million": "1000000", "billion": "1000000000", "trillion": "1000000000000"}


def join_thousands(tokens: list[Token]) -> list[Token]:
    """Join `1,450,000` outside of tuples and sets, at most four groups."""
    result: list[Token] = []
    depth = index = 0
    changed = False
    while index < len(tokens):
        token = tokens[index]
        depth += (token.kind == "open" and token.value != "{") - (token.kind == "close" and token.value != "}")
        end = index
        if (
            token.kind == "number"
            and token.value.isdecimal()
            and len(token.value) <= 3
            and token.value[0] != "0"
            and depth == 0
        ):
            while (
                end + 2 < len(tokens)
                and tokens[end + 1].value == ","
                and _group(tokens[end + 2])
                and not tokens[end + 1].spaced
                and not tokens[end + 2].spaced
            ):
                end += 2
                if "." in tokens[end].value:
                    break
        if end > index and (end - index) // 2 <= 4 and (end + 1 >= len(tokens) or tokens[end + 1].value != ","):
            result.append(token._replace(value="".join(part.value for part in tokens[index : end + 1 : 2])))
            changed = True
        else:
            result.extend(tokens[index : end + 1])
        index = end + 1
    return result if changed else tokens


def _group(token: Token) -> bool:
    return (
        token.kind == "number"
        and len(token.value.partition(".")[0]) == 3
        and token.value[0].isdecimal()
        and "e" not in token.value
    )


def split_joined(tokens: list[Token]) -> list[Token]:
    """Separate joining words that lost their spaces: `-3orx`, `2and3`, `\\pi korx`."""
    result: list[Token] = []
    for index, token in enumerate(tokens):
        if token.value in ("OR", "AND") and _stands_alone(tokens, index):
            result.append(token._replace(value=token.value.lower()))
            continue
        if token.kind == "name" and 2 < len(token.value) <= 5 and not token.text and index and token.value != "for":
            match = _JOINED.fullmatch(token.value)
            if match and (match[1] or tokens[index - 1].kind in ("number", "close")):
                result.extend(Token("name", part) for part in match.groups() if part)
                continue
        result.append(token)
    return result


def _stands_alone(tokens: Sequence[Token], index: int) -> bool:
    """Whether a token is a word between two others: in \\text{}, or with spaces on both sides."""
    if not 0 < index < len(tokens) - 1:
        return False
    return tokens[index].text or bool(tokens[index].spaced and tokens[index + 1].spaced)


def large_numbers(tokens: Sequence[Token]) -> Sequence[Token]:
    """Write `2.5 million` as a product."""
    if not any(token.value in _LARGE for token in tokens):
        return tokens
    result: list[Token] = []
    for index, token in enumerate(tokens):
        if token.kind == "name" and token.value in _LARGE and index and tokens[index - 1].kind == "number":
            result.extend((Token("sign", "*"), Token("number", _LARGE[token.value])))
        else:
            result.append(token)
    return result


def plain_call(tokens: list[Token]) -> list[Token]:
    """Undo two habits of printers: `math.pi` is pi, and sympy's `f{\\left(x\\right)}` is f(x)."""
    values = [token.value for token in tokens]
    if "." not in values and "(" not in values:
        return tokens
    result: list[Token] = []
    closing: set[int] = set()
    skip = False
    for index, token in enumerate(tokens):
        if skip or index in closing:
            skip = False
            continue
        if token.value in _MODULES and values[index + 1 : index + 2] == ["."] and index + 2 < len(tokens):
            skip = True
            continue
        if token.value == "{" and values[index + 1 : index + 2] == ["("] and index and _applies(tokens[index - 1]):
            end = closing_index(tokens, index)
            if closing_index(tokens, index + 1) == end - 1:
                closing.add(end)
                continue
        result.append(token)
    return result


def _applies(token: Token) -> bool:
    """Whether brackets after a token hold its argument: a name, a function, or the end of its power or base."""
    return (token.kind == "name" and not token.text) or token.value == "}" or token.value in FUNCTIONS


def worded_numbers(tokens: list[Token]) -> list[Token]:
    """Write a number in words at the start as digits: `three hours`, `minus 7`, `one half`, `nine hundred million`."""
    if not tokens or tokens[0].kind != "name":
        return tokens
    if tokens[0].value.casefold() in ("minus", "negative") and len(tokens) > 1:
        rest = worded_numbers(tokens[1:])
        return [Token("sign", "-"), *rest] if rest[0].kind in ("number", "open", "command") else tokens
    count = 0
    while count < len(tokens) and (tokens[count].kind == "name" or tokens[count].value == "-"):
        count += 1
    for end in range(min(count, _LONGEST_NUMBER), 0, -1):
        words = [token.value.casefold() for token in tokens[:end] if token.value != "-"]
        value = number_in_words(words)
        if value is not None and (end > 1 or len(tokens) > 1):
            digits = [Token("number", str(value.numerator), tokens[0].spaced)]
            if value.denominator != 1:
                digits += [Token("sign", "/"), Token("number", str(value.denominator))]
            filler = end + 1 < len(tokens) and tokens[end].value.casefold() in ("a", "an", "of")
            return [*digits, *tokens[end + filler :]]
    return tokens
