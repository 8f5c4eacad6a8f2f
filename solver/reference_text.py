"""How the authors' code reads a step: what of it is Python, and what its answer is (semantics `reference`)."""

from __future__ import annotations

from rstar_eval.solver.formats.rstar import CODE, END_CODE, END_STEP

_BOXED, _TEXT = "\\boxed{", "\\text{"


def program(block: str) -> str:
    """Return the Python source in the text of a block: the lines between the one with <code> and the one with
    <end_of_code>, or, if that is nothing, all of it."""
    text = block.replace(END_STEP, "")
    return (code_lines(text, begun=False) or text).strip()


def code_lines(text: str, *, begun: bool) -> str:
    """Return the lines of `text` that are code, the lines with a mark left out; `begun`: whether <code> came before."""
    lines = []
    for line in text.replace(END_STEP, "").split("\n"):
        if CODE in line:
            begun = True
            lines.append("")  # also a program without any other line is one
            continue
        if END_CODE in line:
            begun = False
        elif begun:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def boxed_answer(text: str) -> str:
    r"""Return the answer of a step that contains "boxed" ("": it has none, and the step is none).

    It is the content of the last \boxed{, or all of the text if there is none, with its first \text{...} opened ("and"
    in it is dropped). A box that never closes begins behind the last brace that did; a \text{ that never closes spoils
    the answer ("[invalid]").

    >>> boxed_answer(r"It is \boxed{5\text{ cm}}."), boxed_answer("so boxed: 5")
    ('5cm', 'so boxed: 5')
    """
    start = text.rfind(_BOXED)
    answer = text
    if start >= 0:
        rest = text[start:]
        opened, closed = _outer(rest)
        answer = rest[(start if opened is None else opened) + 1 : closed]
    at = answer.find(_TEXT)
    if at >= 0:
        rest = answer[at:]
        opened, closed = _outer(rest)
        if opened is None or closed is None:
            return "[invalid]"
        inner = rest[opened + 1 : closed].strip()
        answer = answer[:at] + ("" if inner == "and" else inner) + rest[closed + 1 :]
    return answer.strip()


def _outer(text: str) -> tuple[int | None, int | None]:
    """Return where the brace that closed last was opened and where the first of all was closed (None: nowhere)."""
    stack: list[int] = []
    opened = None
    for i, character in enumerate(text):
        if character == "{":
            stack.append(i)
        elif character == "}":
            opened = stack.pop()
            if not stack:
                return opened, i
    return opened, None
