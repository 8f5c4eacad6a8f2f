"""What a worker may say. Frames come from a process that ran hostile code: every field is checked, nothing assumed."""

from __future__ import annotations

import json
from dataclasses import dataclass

MAX_FRAME = 65_536
"""Largest frame in bytes; a larger one is a violation. The longest honest one has under 60,000."""
MAX_OUTPUT = 4096
"""Bytes (UTF-8) of a step's output that are kept."""
MAX_MESSAGE = 500
MAX_CPU = 1e6

ANSWERS = frozenset({"ok", "error", "missing", "notcopyable", "nottame", "tainted"})


class Violation(Exception):
    """A frame that no honest worker sends; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One worker's answer to one step: `answer` is one of ANSWERS, `note` says why it ran nothing. `cpu`: the CPU
    seconds that the worker says the step took; good only for sharing out what the kernel counted for a request."""

    answer: str
    output: str
    error_type: str
    error: str
    note: str
    cpu: float


def clean(text: str, limit: int) -> str:
    """Return `text` as valid Unicode of at most `limit` bytes in UTF-8."""
    if len(text) <= limit and text.isascii():
        return text
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def read_replies(data: bytes, nonce: str, left: int) -> list[Reply]:
    """Read one frame, which must answer the next one to `left` steps of the request with `nonce`; Violation if it is
    anything else."""
    if len(data) > MAX_FRAME:
        raise Violation("oversized frame")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Violation("frame is not JSON") from None
    if not isinstance(fields, list) or not 2 <= len(fields) <= left + 1 or not isinstance(fields[0], str):
        raise Violation("frame of the wrong shape")
    if fields[0] != nonce:
        raise Violation("wrong nonce")
    return [_reply(answer) for answer in fields[1:]]


def _reply(fields: object) -> Reply:
    if not isinstance(fields, list) or len(fields) != 6:
        raise Violation("frame of the wrong shape")
    answer, output, error_type, error, note, cpu = fields
    if not all(type(field) is str for field in fields[:5]) or type(cpu) not in (int, float):
        raise Violation("frame of the wrong shape")
    if answer not in ANSWERS:
        raise Violation("unknown answer")
    if not 0 <= cpu < MAX_CPU:
        raise Violation("CPU time that cannot be")
    return Reply(
        answer=answer,
        output=clean(output, MAX_OUTPUT),
        error_type=clean(error_type, 100),
        error=clean(error, MAX_MESSAGE),
        note=clean(note, MAX_MESSAGE),
        cpu=float(cpu),
    )


def is_hello(data: bytes) -> bool:
    """Return whether `data` is a worker's first frame, sent before it has seen any step."""
    return data == b'["hello"]'
