"""A solution's steps as plain text, for reward models that were trained on prose.

Our trajectories are code steps, their printed output and an answer, in either step format. A step becomes its code,
comments included, without the format's marks; the output of a block follows the code of its last step; the answer's
sentence is the last step.
"""

from __future__ import annotations

import re

from rstar_eval.solver.formats.chat import OPEN, STEP
from rstar_eval.solver.formats.rstar import ANSWER, CODE, END_ANSWER, END_CODE, END_OUTPUT, END_STEP, OUTPUT

_RSTAR_END = re.compile(f"{END_STEP}|{END_CODE}(?:\\s*{OUTPUT}.*?(?:{END_OUTPUT}|\\Z))?|{END_ANSWER}", re.DOTALL)
_CHAT_END = re.compile(f"\n(?={STEP})|\n```\n(?:```output\n.*?(?:\n```\n|\\Z))?", re.DOTALL)
_MARKS = re.compile("|".join((CODE, END_STEP, END_CODE, END_OUTPUT, ANSWER, END_ANSWER)))
_FENCES = re.compile(r"^```(?:python)?\n?", re.MULTILINE)


def solution_steps(prefix: str) -> list[str]:
    """Return the steps of a solution prefix in surface form; [""] for an empty one.

    >>> solution_steps("<code>\\nx = 1 + 2\\n<end_of_step>\\nprint(x)\\n<end_of_code>\\n<output>3<end_of_output>")
    ['x = 1 + 2', 'print(x)\\nOutput: 3']
    """
    plain = _plain_chat if prefix.startswith(OPEN) else _plain_rstar
    return [plain(prefix[start:end]) for start, end in _spans(prefix)] or [""]


def last_step_start(prefix: str) -> int:
    """Return the character of `prefix` at which its last step begins (0 if it has none, or one)."""
    spans = _spans(prefix)
    return spans[-1][0] if spans else 0


def _spans(prefix: str) -> list[tuple[int, int]]:
    """Return where each step begins and ends; together they cover the prefix, but for blanks behind the last."""
    chat = prefix.startswith(OPEN)
    spans, start = [], 0
    for found in (_CHAT_END if chat else _RSTAR_END).finditer(prefix, len(OPEN) if chat else 0):
        spans.append((start, found.end()))
        start = found.end()
    if prefix[start:].strip():
        spans.append((start, len(prefix)))
    return spans


def _plain_rstar(step: str) -> str:
    code, output, shown = step.partition(OUTPUT)
    text = _MARKS.sub("", code).strip()
    return f"{text}\nOutput: {_MARKS.sub('', shown)}" if output else text


def _plain_chat(step: str) -> str:
    code, output, shown = step.partition("```output\n")
    text = _FENCES.sub("", code).strip()
    return f"{text}\nOutput: {_FENCES.sub('', shown).strip()}" if output else text
