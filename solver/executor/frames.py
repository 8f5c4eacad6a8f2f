"""What a worker may say. Frames come from a process that ran hostile code: every field is checked, nothing assumed."""

from __future__ import annotations

import json
from dataclasses import dataclass

MAX_FRAME = 65_536
"""Largest frame in bytes; a larger one is a violation. The longest honest one has under 60,000."""
MAX_OUTPUT = 4096
"""Bytes (UTF-8) of a step's output that are kept."""
MAX_MESSAGE = 500

ANSWERS = frozenset({"ok", "error", "missing", "notcopyable", "nottame", "tainted"})


class Violation(Exception):
    """A frame that no honest worker sends; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One worker's answer to one request: `answer` is one of ANSWERS, `note` says why it ran nothing."""

    answer: str
    output: str
    error_type: str
    error: str
    note: str


def clean(text: str, limit: int) -> str:
    """Return `text` as valid Unicode of at most `limit` bytes in UTF-8."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def read_reply(data: bytes, nonce: str) -> Reply:
    """Read one frame that must answer the request with `nonce`; Violation if it is anything else."""
    if len(data) > MAX_FRAME:
        raise Violation("oversized frame")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Violation("frame is not JSON") from None
    if not isinstance(fields, list) or len(fields) != 6 or not all(isinstance(field, str) for field in fields):
        raise Violation("frame of the wrong shape")
    if fields[0] != nonce:
        raise Violation("wrong nonce")
    if fields[1] not in ANSWERS:
        raise Violation("unknown answer")
    return Reply(
        answer=fields[1],
        output=clean(fields[2], MAX_OUTPUT),
        error_type=clean(fields[3], 100),
        error=clean(fields[4], MAX_MESSAGE),
        note=clean(fields[5], MAX_MESSAGE),
    )


def is_hello(data: bytes) -> bool:
    """Return whether `data` is a worker's first frame, sent before it has seen any step."""
    return data == b'["hello"]'
