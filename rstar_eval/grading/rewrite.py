"""Rewriting of tokens before they are read: thousands, joining words that lost their spaces, `2.5 million`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rstar_eval.grading.tokens import Token

_JOINED = re.compile(r"([A-Za-z]?)(and|or)([A-Za-z]?)")
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
            and token.value.isdigit()
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
        and token.value[0].isdigit()
        and "e" not in token.value
    )


def split_joined(tokens: list[Token]) -> list[Token]:
    """Separate joining words that lost their spaces: `-3orx`, `2and3`, `\\pi korx`."""
    result: list[Token] = []
    for index, token in enumerate(tokens):
        if token.kind == "name" and 2 < len(token.value) <= 5 and not token.text and index:
            match = _JOINED.fullmatch(token.value)
            if match and (match[1] or tokens[index - 1].kind in ("number", "close")):
                result.extend(Token("name", part) for part in match.groups() if part)
                continue
        result.append(token)
    return result


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
