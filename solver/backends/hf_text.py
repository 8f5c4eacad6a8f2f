"""Tokens to text, one token at a time, and the search for stop strings in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CONTEXT_TOKENS = 4
"""Prompt tokens that are decoded along: some tokenizers write a token differently at the beginning of a text."""
INCOMPLETE = "\ufffd"

Decode = Callable[[Sequence[int]], str]


class TextStream:
    """The text of one completion, growing by tokens.

    A character may be spread over several tokens: text is held back while its last character is incomplete, so that
    what has been given out never changes.
    """

    def __init__(self, decode: Decode, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._ids = list(prompt[-CONTEXT_TOKENS:])
        self._from = 0
        self._read = len(self._ids)
        self._start = len(self._ids)
        self.text = ""
        self.stop: str | None = None

    @property
    def tokens(self) -> int:
        """The number of tokens pushed."""
        return len(self._ids) - self._start

    def push(self, token: int) -> bool:
        """Add a token; return whether the text now holds a stop string, at whose beginning it is then cut."""
        self._ids.append(token)
        known = self._decode(self._ids[self._from : self._read])
        fresh = self._decode(self._ids[self._from :])
        if fresh.endswith(INCOMPLETE) or len(fresh) <= len(known):
            return False
        self._from, self._read = self._read, len(self._ids)
        return self._append(fresh[len(known) :])

    def finish(self) -> bool:
        """Give out what was held back (an incomplete character becomes U+FFFD); return as `push` does."""
        if self.stop is not None or self._read == len(self._ids):
            return False
        known = self._decode(self._ids[self._from : self._read])
        fresh = self._decode(self._ids[self._from :])
        self._read = len(self._ids)
        return self._append(fresh[len(known) :])

    def _append(self, piece: str) -> bool:
        searched = max(0, len(self.text) - self._longest + 1)
        self.text += piece
        hits = [(at, -len(stop), stop) for stop in self._stops if (at := self.text.find(stop, searched)) >= 0]
        if not hits:
            return False
        at, _, self.stop = min(hits)
        self.text = self.text[:at]
        return True
