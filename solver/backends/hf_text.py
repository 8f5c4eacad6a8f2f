"""Tokens to text, one token at a time, and the search for stop strings in it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from typing import Any

CONTEXT_TOKENS = 4
"""Prompt tokens that are decoded along: some tokenizers write a token differently at the beginning of a text."""
INCOMPLETE = "\ufffd"

Decode = Callable[[Sequence[int]], str]


class Pieces(dict[int, bytes]):
    """The bytes of each token of a byte-level tokenizer, looked up when first asked for.

    With such a tokenizer the text of tokens is their bytes in a row, so that a token can be decoded without those
    before it.
    """

    def __init__(self, token_text: Callable[[int], str | None]) -> None:
        super().__init__()
        self._token_text = token_text
        self._bytes = {char: byte for byte, char in enumerate(_byte_letters())}

    def __missing__(self, token: int) -> bytes:
        text = self._token_text(token) or ""
        letters = [self._bytes.get(char) for char in text]
        piece = bytes(byte for byte in letters if byte is not None)
        # An added token may hold characters that no byte is written as: it then stands for itself.
        self[token] = piece if len(piece) == len(text) else text.encode()
        return self[token]


def pieces_of(tokenizer: Any) -> Pieces | None:
    """Return the tokens' bytes if the tokenizer is byte-level (those of Qwen, Llama 3 and GPT-2), else None."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    decoder = json.loads(backend.to_str())["decoder"]
    if not decoder or decoder["type"] != "ByteLevel":
        return None
    return Pieces(backend.id_to_token)


def _byte_letters() -> list[str]:
    """Return the character that byte-level tokenizers write each byte 0 to 255 as: itself if it is visible in Latin-1,
    else the next of the characters from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


class TextStream:
    """The text of one completion, growing by tokens.

    A character may be spread over several tokens: text is held back while its last character is incomplete, so that
    what has been given out never changes. With `pieces`, tokens are decoded one by one; without, together with those
    before them.
    """

    def __init__(
        self, decode: Decode, prompt: Sequence[int], stops: Sequence[str], pieces: Pieces | None = None
    ) -> None:
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decode = decode
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._ids = list(prompt[-CONTEXT_TOKENS:]) if pieces is None else []
        self._from = 0
        self._read = len(self._ids)
        self.tokens = 0
        self.text = ""
        self.stop: str | None = None

    def push(self, token: int) -> bool:
        """Add a token; return whether the text now holds a stop string, at whose beginning it is then cut."""
        self.tokens += 1
        if self._pieces is not None:
            piece = self._utf8.decode(self._pieces[token])
            return self._append(piece) if piece else False
        self._ids.append(token)
        known = self._decode(self._ids[self._from : self._read])
        fresh = self._decode(self._ids[self._from :])
        if fresh.endswith(INCOMPLETE) or len(fresh) <= len(known):
            return False
        self._from, self._read = self._read, len(self._ids)
        return self._append(fresh[len(known) :])

    def finish(self) -> bool:
        """Give out what was held back (an incomplete character becomes U+FFFD); return as `push` does."""
        if self.stop is not None:
            return False
        if self._pieces is not None:
            return self._append(self._utf8.decode(b"", final=True))
        if self._read == len(self._ids):
            return False
        known = self._decode(self._ids[self._from : self._read])
        fresh = self._decode(self._ids[self._from :])
        self._read = len(self._ids)
        return self._append(fresh[len(known) :])

    def _append(self, piece: str) -> bool:
        searched = max(0, len(self.text) - self._longest + 1)
        self.text += piece
        text = self.text
        for stop in self._stops:
            if text.find(stop, searched) >= 0:
                break
        else:
            return False
        hits = [(at, -len(stop), stop) for stop in self._stops if (at := text.find(stop, searched)) >= 0]
        at, _, self.stop = min(hits)
        self.text = text[:at]
        return True
