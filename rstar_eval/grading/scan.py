"""Walking over tokens: where brackets open and close, and splitting outside of them."""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.grading.tokens import Token

PAIRS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "<": ">", "floor": "floor", "ceil": "ceil"}


def split(tokens: Sequence[Token], *values: str) -> list[Sequence[Token]]:
    """Split tokens at signs, commands or joining names with one of these values, outside of all brackets."""
    parts: list[Sequence[Token]] = []
    start = depth = 0
    wanted = frozenset(values)
    environments = 0
    for index, token in enumerate(tokens):
        if token.kind == "open":
            depth += 1
        elif token.kind == "close":
            depth -= 1
        elif token.kind == "command" and token.value in ("begin", "end"):
            environments += 1 if token.value == "begin" else -1
        elif depth == 0 and environments == 0 and token.value in wanted and token.kind != "number":
            parts.append(tokens[start:index])
            start = index + 1
    parts.append(tokens[start:])
    return parts


def enclosed(tokens: Sequence[Token]) -> str:
    """Return the opening bracket if one pair of brackets holds all tokens ("(" and "]" may pair), else ""."""
    if len(tokens) < 2 or tokens[0].kind != "open" or tokens[-1].kind != "close":
        return ""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and index < len(tokens) - 1:
            return ""
    if depth:
        return ""
    opening, closing = tokens[0].value, tokens[-1].value
    if PAIRS.get(opening) == closing or (opening in "([" and closing in ")]"):
        return opening
    return ""


def closing_index(tokens: Sequence[Token], start: int) -> int:
    """The place of the bracket that closes the one at `start`; the last place if none does."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index].kind == "open") - (tokens[index].kind == "close")
        if depth == 0:
            return index
    return len(tokens) - 1
