"""A solution's steps as plain text, for reward models that were trained on prose.

Our trajectories are code steps, their printed output and an answer, in either step format. A step becomes its code,
comments included, without the format's marks; the output of a block follows the code of its last step; the answer's
sentence is the last step.
"""

from __future__ import annotations

from rstar_eval.solver.formats.chat import CLOSE, OPEN, STEP
from rstar_eval.solver.formats.rstar import ANSWER, CODE, END_ANSWER, END_CODE, END_OUTPUT, END_STEP, OUTPUT


def solution_steps(prefix: str) -> list[str]:
    """Return the steps of a solution prefix in surface form; [""] for an empty one.

    >>> solution_steps("<code>\\nx = 1 + 2\\n<end_of_step>\\nprint(x)\\n<end_of_code>\\n<output>3<end_of_output>")
    ['x = 1 + 2', 'print(x)\\nOutput: 3']
    """
    return ["\n".join(piece).strip() for piece in _pieces(prefix)] or [""]


def last_step_start(prefix: str) -> int:
    """Return the character of `prefix` at which its last step begins (0 if it has only one)."""
    if prefix.startswith(OPEN):
        at = max(prefix.rfind("\n" + STEP), prefix.rfind("\n" + CLOSE + "The answer"))
        return at + 1 if at >= 0 else 0
    body = prefix.rstrip()
    for mark in (END_OUTPUT, END_CODE, END_STEP, END_ANSWER):
        if body.endswith(mark):
            body = body[: -len(mark)]
            break
    if prefix.rstrip().endswith(END_OUTPUT):  # the step is the code before the output
        body = body[: max(body.rfind(END_CODE), 0)]
    ends = [body.rfind(mark) + len(mark) for mark in (END_STEP, END_OUTPUT) if mark in body]
    return max(ends, default=0)


def _pieces(prefix: str) -> list[list[str]]:
    return _chat_pieces(prefix) if prefix.startswith(OPEN) else _rstar_pieces(prefix)


def _rstar_pieces(prefix: str) -> list[list[str]]:
    steps: list[list[str]] = []
    for block in prefix.split(END_CODE):
        _, output, rest = block.partition(OUTPUT) if block.lstrip().startswith(OUTPUT) else ("", "", block)
        if output:
            shown, _, rest = rest.partition(END_OUTPUT)
            if steps:
                steps[-1].append(f"Output: {shown}")
        if rest.lstrip().startswith(ANSWER):
            steps.append([rest.replace(ANSWER, "", 1).replace(END_ANSWER, "").strip()])
            continue
        code = rest.replace(CODE, "", 1)
        steps += [[piece.strip()] for piece in code.split(END_STEP) if piece.strip()]
    return steps


def _chat_pieces(prefix: str) -> list[list[str]]:
    code, closed, rest = prefix[len(OPEN) :].partition("\n" + CLOSE)
    steps = [[piece if i == 0 else STEP + piece] for i, piece in enumerate(code.split("\n" + STEP))]
    if closed and rest.startswith("```output\n"):
        shown, _, rest = rest[len("```output\n") :].partition("\n" + CLOSE)
        steps[-1].append(f"Output: {shown}")
    if rest.strip():
        steps.append([rest])
    return steps
