"""Text that a model wrote, made safe for a terminal."""

from __future__ import annotations

import unicodedata

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def visible(text: str) -> str:
    r"""Return `text` with control characters (but newlines and tabs), direction marks and lone surrogates written as
    escapes, so that printing it can't move the cursor, retitle the window or reorder a line.

    >>> print(visible("a\x1b[31mb"))
    a\x1b[31mb
    """
    return "".join(_escape(c) if _unsafe(c) else c for c in text)


def _unsafe(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _BIDI or unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
