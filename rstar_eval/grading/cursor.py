"""A place in a list of tokens: what the parser is built on."""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.tokens import Token


class ParseError(Exception):
    """The tokens are not an expression of the answer language."""


END = Token("end", "")


class Cursor:
    """Tokens and the place of the next one. The parser may split one (`12` after \\frac is 1 and 2)."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = list(tokens)
        self.position = 0
        self.depth = 0

    def deeper(self) -> None:
        """Enter one level. LimitExceeded if that is one too many."""
        self.depth += 1
        if self.depth > LIMITS.depth:
            raise LimitExceeded("nesting")

    def peek(self, ahead: int = 0) -> Token:
        """The token `ahead` of the next one; an end token after the last."""
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else END

    def at(self, *values: str) -> bool:
        """Whether a sign, bracket or command with one of these values is next."""
        token = self.peek()
        return token.value in values and token.kind in ("sign", "open", "close", "command")

    def take(self) -> Token:
        """Return the next token and go on."""
        token = self.peek()
        self.position += 1
        return token

    def expect(self, value: str) -> None:
        """Take a token with this value. ParseError if another one is next."""
        if not self.at(value):
            raise ParseError(f"expected {value!r}, found {self.peek().value!r}")
        self.position += 1
