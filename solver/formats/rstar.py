"""The `rstar` step format: the authors' grammar, for policies fine-tuned on their data.

    <code> step <end_of_step> step <end_of_step> ... last step <end_of_code>
    <output>printed output<end_of_output>
    <answer> ... \\boxed{} ... <end_of_answer>

After a closed block and its output comes the answer or another block. The prompt is that of the authors' supervised
fine-tuning data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from rstar_eval.solver.types import Completion, ParsedStep, Prompt

CODE, END_STEP, END_CODE = "<code>", "<end_of_step>", "<end_of_code>"
OUTPUT, END_OUTPUT = "<output>", "<end_of_output>"
ANSWER, END_ANSWER = "<answer>", "<end_of_answer>"
_MARKS = (CODE, END_STEP, END_CODE, OUTPUT, END_OUTPUT, ANSWER, END_ANSWER)
_BOXED = "\\boxed"
_PRINTED = re.compile(f"{OUTPUT}.*?{END_OUTPUT}", re.DOTALL)


def prompt_text(question: str, prefix: str = "") -> str:
    """Return what a fine-tuned policy completes; also the text that its reward models judge."""
    return f"<|user|>:\n{question}\n<|assistant|>: Let's think step by step and solve the problem with code.{prefix}"


def printed(text: str, spans: Sequence[tuple[int, int]], begin: int = 0) -> set[int]:
    """Return which of a text's tokens (their characters: `spans`, start and end) lie in printed outputs, marks too, of
    the solution that begins at character `begin`: these the sandbox wrote, not the policy."""
    outputs = [match.span() for match in _PRINTED.finditer(text, begin)]
    return {
        at
        for at, (start, end) in enumerate(spans)
        if end > start and any(low <= start and end <= high for low, high in outputs)
    }


def boxed(text: str) -> str | None:
    """Return the content of the last \\boxed{} in `text` that is closed and not blank, stripped; None without one.

    >>> boxed("so \\\\boxed{1}, no: \\\\boxed{x_{2}}.")
    'x_{2}'
    """
    start = text.rfind(_BOXED)
    while start >= 0:
        content = _braced(text, start + len(_BOXED))
        if content:
            return content
        start = text.rfind(_BOXED, 0, start)
    return None


def _braced(text: str, start: int) -> str | None:
    """Return the stripped content of the brace group that opens at `start`, blanks before it allowed."""
    while start < len(text) and text[start].isspace():
        start += 1
    if not text.startswith("{", start):
        return None
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":  # an escaped brace opens and closes nothing
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 1 : at].strip()
        at += 1
    return None


def in_block(prefix: str) -> bool:
    """Return whether `prefix` ends inside a code block."""
    return prefix.rfind(CODE) > prefix.rfind(END_CODE)


class RStarFormat:
    """The authors' grammar. See the head of this module."""

    name = "rstar"

    def prompt(self, question: str, prefix: str) -> Prompt:
        """Return the fine-tuning prompt, continued by `prefix`, as plain text."""
        return Prompt(raw=prompt_text(question, prefix))

    def stops(self, until: Literal["step", "block"]) -> tuple[str, ...]:
        """Return the closing marks of a step, or of a whole block."""
        return (END_STEP, END_CODE, END_ANSWER) if until == "step" else (END_CODE, END_ANSWER)

    def parse(self, prefix: str, completion: Completion) -> list[ParsedStep]:
        """Read a completion of `prefix` as steps.

        An answer begins with <answer> and is closed by its mark, or by the end of the sequence if it holds a box. Code
        begins with <code> unless a block is open, and is closed by one of its marks. All else, and any step that
        another mark intrudes into, is `malformed`.
        """
        pieces = completion.text.split(END_STEP)
        inside = in_block(prefix)
        steps: list[ParsedStep] = []
        for piece in pieces[:-1]:
            steps.append(_code_step(piece, END_STEP, inside))
            inside = True
        closing = completion.stop if completion.finish == "stop" else None
        last = pieces[-1]
        if len(pieces) > 1 and not last.strip() and closing is None:
            return steps  # the sequence ended right after a step
        body = last.lstrip()
        if body.startswith(ANSWER):
            steps.append(_answer_step(last, body[len(ANSWER) :], closing, completion.finish == "eos"))
        elif closing is None:
            steps.append(ParsedStep(last, "malformed"))
        else:
            steps.append(_code_step(last, closing, inside))
        return steps

    def render_output(self, output: str) -> str:
        """Return the output block that follows a closed code block. Marks that the code printed are broken up, so that
        printed text can't open or close a part of the solution."""
        shown = output.rstrip()
        for mark in _MARKS:
            shown = shown.replace(mark, mark.replace("<", "< "))
        return f"\n{OUTPUT}{shown}{END_OUTPUT}"


def _code_step(text: str, closing: str, inside: bool) -> ParsedStep:
    whole = text + closing
    body = text.lstrip()
    opened = body.startswith(CODE)
    code = body[len(CODE) :] if opened else text
    fits = opened != inside and closing in (END_STEP, END_CODE) and not any(mark in code for mark in _MARKS)
    if not fits or (closing == END_STEP and not code.strip()):
        return ParsedStep(whole, "malformed")
    return ParsedStep(whole, "final_code" if closing == END_CODE else "code", code)


def _answer_step(text: str, content: str, closing: str | None, ended: bool) -> ParsedStep:
    answer = boxed(content)
    complete = closing == END_ANSWER or (ended and answer is not None)
    if not complete or any(mark in content for mark in _MARKS):
        return ParsedStep(text + (closing or ""), "malformed")
    return ParsedStep(text + END_ANSWER, "answer", answer=answer)
