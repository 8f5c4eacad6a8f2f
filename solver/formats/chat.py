"""The `chat` step format: for instruct models, prompted with worked examples.

A solution is one Python block of steps, the block's printed output, and a sentence with the answer:

    ```python
    # Step 1: ...
    x = 3 * 4
    # Step 2: ...
    print(x + 8)
    ```
    ```output
    20
    ```
    The answer is \\boxed{20}.

The model never starts from nothing: the prompt ends with a *lead* (the opened block, the next "# Step", or the
beginning of the answer sentence), which the completion continues and which `parse` puts back in front of it. A step
ends where the next "# Step" begins or where the block closes; the steps of one long completion are therefore exactly
the steps that one call a step gives. The answer sentence is cut after its \\boxed{}; what a model says after it is
dropped.
"""

from __future__ import annotations

from typing import Literal

from rstar_eval.solver.formats.chat_prompt import messages
from rstar_eval.solver.types import Completion, ParsedStep, Prompt

OPEN, CLOSE = "```python\n", "```\n"
STEP = "# Step"
NEXT_STEP, END_BLOCK = "\n" + STEP, "\n```"
FIRST_LEAD = OPEN + STEP + " 1:"
ANSWER_LEAD = "The answer is \\boxed{"

State = Literal["start", "code", "answer"]


def state_of(prefix: str) -> State:
    """Return what comes next in a solution: its code block (`start`), a further step of it (`code`) or the answer."""
    if not prefix:
        return "start"
    fences = [line for line in prefix.split("\n") if line.startswith("```")]
    return "code" if fences and fences[-1] == OPEN.rstrip("\n") else "answer"


def lead_of(prefix: str) -> str:
    """Return what the prompt puts after `prefix` to begin the next piece."""
    return {"start": FIRST_LEAD, "code": STEP, "answer": ANSWER_LEAD}[state_of(prefix)]


def closing_brace(text: str, start: int) -> int | None:
    """Return the index of the brace that closes the group opened just before `start` (None if it stays open).

    Escaped braces (LaTeX sets) count only when they are unbalanced otherwise: `\\{` and `\\}` are skipped.
    """
    depth, i = 1, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
        i += 1
    return None


class ChatFormat:
    """Few-shot chat prompting for instruct models. See the head of this module."""

    name = "chat"

    def prompt(self, question: str, prefix: str) -> Prompt:
        """Return the chat whose last, assistant turn begins with `prefix` and the lead of the next piece."""
        return Prompt(messages=messages(question), assistant_prefix=prefix + lead_of(prefix))

    def stops(self, until: Literal["step", "block"]) -> tuple[str, ...]:
        """Return the stop strings: the close of the block and, for one step, the head of the next step."""
        return (NEXT_STEP, END_BLOCK) if until == "step" else (END_BLOCK,)

    def parse(self, prefix: str, completion: Completion) -> list[ParsedStep]:
        """Read a completion of `prefix` as steps.

        In a code block, a completion that ended at the head of the next step leaves the block open; one that ended at
        the close of the block or with the model's end-of-sequence token closes it (`final_code`); one cut by the token
        limit ends with a `malformed` step. After the block, the completion is the answer: `malformed` if its \\boxed{}
        never closes or holds nothing.
        """
        state = state_of(prefix)
        text = lead_of(prefix) + completion.text
        if state == "answer":
            return [_answer(text)]
        body, closed, _ = (text if state == "code" else text[len(OPEN) :]).partition(END_BLOCK)
        pieces = body.split(NEXT_STEP)
        steps = [piece if i == 0 else STEP + piece for i, piece in enumerate(pieces)]
        final = bool(closed) or completion.finish == "eos" or completion.stop == END_BLOCK
        ended = final or completion.finish == "stop"
        # Blank lines at a step's end carry no meaning; without them, equal steps are equal texts.
        sources = [step.rstrip() + "\n" for step in (steps if ended else steps[:-1])]
        parsed = [ParsedStep(source, "code", source) for source in sources]
        if final:
            parsed[-1] = ParsedStep(sources[-1] + CLOSE, "final_code", sources[-1])
        elif not ended:
            parsed.append(ParsedStep(steps[-1], "malformed"))
        if state == "start":
            first = parsed[0]
            parsed[0] = ParsedStep(OPEN + first.text, first.kind, first.code)
        return parsed

    def render_output(self, output: str) -> str:
        """Return the output block that is shown after the code block. Fences in the output are broken up, so that
        what code prints can't open or close a block."""
        shown = output.replace("```", "'''").strip("\n")
        return f"```output\n{shown}\n{CLOSE}"


def _answer(text: str) -> ParsedStep:
    start = len(ANSWER_LEAD)
    end = closing_brace(text, start)
    if end is None or not text[start:end].strip():
        return ParsedStep(text, "malformed")
    return ParsedStep(text[: end + 1] + ".", "answer", answer=text[start:end].strip())
