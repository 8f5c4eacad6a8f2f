"""Which problems of a task a run works on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem

SHORTEST_PREFIX = 4


def select(
    problems: Sequence[Problem], ids: Sequence[str] | None = None, limit: int | None = None
) -> tuple[Problem, ...]:
    """Return the problems named by `ids` (None: all), of these the first `limit` (None: all), in the task's order.

    An id is a problem's 16 hex digits, a prefix of at least 4 of them that only one problem has, or the problem's
    0-based index; digits that are a valid index mean the index. UserError for an unknown or ambiguous id, an empty
    list of ids, and a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}", "allowed: 1 or more, or no limit")
    chosen = list(problems)
    if ids is not None:
        if not ids:
            raise UserError("the list of ids is empty", "name at least one problem, or leave the ids out")
        wanted = {_find(problems, text).index for text in ids}
        chosen = [problem for problem in problems if problem.index in wanted]
    return tuple(chosen[:limit])


def _find(problems: Sequence[Problem], text: str) -> Problem:
    key = text.strip().lower()
    if key.isascii() and key.isdigit() and len(key) < 16:
        by_index = [problem for problem in problems if problem.index == int(key)]
        if by_index:
            return by_index[0]
    hits = []
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},16}}", key):
        hits = [problem for problem in problems if problem.id.startswith(key)]
    if len(hits) == 1:
        return hits[0]
    last = max((problem.index for problem in problems), default=-1)
    allowed = f"allowed: an index from 0 to {last}, an id, or a prefix of {SHORTEST_PREFIX} or more of its hex digits"
    if hits:
        raise UserError(f"id {text!r} fits {len(hits)} problems", "give more digits")
    raise UserError(f"no problem {text!r}", allowed)
