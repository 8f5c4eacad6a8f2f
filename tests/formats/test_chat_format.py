from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.solver.backends.engine import cut_at_stop
from rstar_eval.solver.formats import get_format
from rstar_eval.solver.formats.chat import ChatFormat, lead_of
from rstar_eval.solver.formats.chat_prompt import EXAMPLES
from rstar_eval.solver.types import Completion, ParsedStep

FORMAT = ChatFormat()
OPENED = "```python\n# Step 1: a\nx = 1\n"
CLOSED = OPENED + "# Step 2: b\nprint(x)\n```\n"
SHOWN = CLOSED + "```output\n1\n```\n"

pieces = st.lists(
    st.sampled_from(
        [
            "\n# Step",
            " 2: go",
            "\n```",
            "```",
            "\n",
            " ",
            "x = 1",
            "print(x)",
            "\\boxed{",
            "}",
            "{",
            "\\",
            "é",
            "#",
            "\n\n",
        ]
    )
    | st.text(max_size=4),
    max_size=14,
).map("".join)
prefixes = st.sampled_from(["", OPENED, CLOSED, SHOWN]) | st.text(max_size=20)
ends = st.sampled_from(["stop", "eos", "length"])


def complete(text: str, until: str = "step", end: str = "eos") -> Completion:
    """What an engine makes of a model that would write `text` and then end: cut at the first stop string."""
    cut, stop = cut_at_stop(text, FORMAT.stops(until))
    return Completion(cut, "stop", stop, 1) if stop else Completion(cut, end, None, 1)


def texts(steps: list[ParsedStep]) -> str:
    return "".join(step.text for step in steps)


def test_a_solution_step_by_step() -> None:
    assert FORMAT.prompt("Q?", "").assistant_prefix == "```python\n# Step 1:"
    first = FORMAT.parse("", complete(" a\nx = 1\n\n# Step 2: b"))
    assert first == [ParsedStep(OPENED, "code", "# Step 1: a\nx = 1\n")]
    assert FORMAT.prompt("Q?", OPENED).assistant_prefix == OPENED + "# Step"
    second = FORMAT.parse(OPENED, complete(" 2: b\nprint(x)\n```\nSo"))
    assert second == [ParsedStep("# Step 2: b\nprint(x)\n```\n", "final_code", "# Step 2: b\nprint(x)\n")]
    assert CLOSED + FORMAT.render_output("1\n") == SHOWN
    assert FORMAT.prompt("Q?", SHOWN).assistant_prefix == SHOWN + "The answer is \\boxed{"
    answer = FORMAT.parse(SHOWN, complete("1}. Since x is 1."))
    assert answer == [ParsedStep("The answer is \\boxed{1}.", "answer", answer="1")]


def test_a_block_in_one_completion() -> None:
    block = FORMAT.parse("", complete(" a\nx = 1\n# Step 2: b\nprint(x)\n```\nmore", "block"))
    assert [step.kind for step in block] == ["code", "final_code"]
    assert texts(block) == CLOSED


@pytest.mark.parametrize(
    ("prefix", "completion", "kinds", "answer"),
    [
        ("", Completion(" a\nx =", "length"), ["malformed"], None),
        ("", Completion(" a\nx = 1\n# Step 2: b\ny", "length"), ["code", "malformed"], None),
        ("", Completion(" a\nprint(1)", "eos"), ["final_code"], None),
        ("", Completion("", "eos"), ["final_code"], None),
        ("", Completion("", "length"), ["malformed"], None),
        (OPENED, Completion("", "stop", "\n```"), ["final_code"], None),
        (SHOWN, Completion("", "eos"), ["malformed"], None),
        (SHOWN, Completion("}", "eos"), ["malformed"], None),
        (SHOWN, Completion(" }", "eos"), ["malformed"], None),
        (SHOWN, Completion("12", "length"), ["malformed"], None),
        (SHOWN, Completion("12", "eos"), ["malformed"], None),
        (SHOWN, Completion("12}", "length"), ["answer"], "12"),
        (SHOWN, Completion("\\frac{1}{2}}.", "eos"), ["answer"], "\\frac{1}{2}"),
        (SHOWN, Completion("\\{1, 2\\}}", "eos"), ["answer"], "\\{1, 2\\}"),
        (SHOWN, Completion("\\left\\{x\\right.}", "eos"), ["answer"], "\\left\\{x\\right."),
        (SHOWN, Completion("5} or \\boxed{6}", "eos"), ["answer"], "5"),
        (CLOSED, Completion("7}", "eos"), ["answer"], "7"),
    ],
)
def test_how_completions_end(prefix: str, completion: Completion, kinds: list[str], answer: str | None) -> None:
    steps = FORMAT.parse(prefix, completion)
    assert [step.kind for step in steps] == kinds
    assert steps[-1].answer == answer


@given(prefixes, pieces, ends, st.sampled_from([None, "\n```", "\n# Step", "else"]))
def test_parse_never_raises_and_gives_steps(prefix: str, text: str, finish: str, stop: str | None) -> None:
    steps = FORMAT.parse(prefix, Completion(text, finish, stop, 1))
    assert steps
    assert all(step.kind != "answer" or step.answer for step in steps)
    assert all(step.kind in ("code", "final_code") or not step.code for step in steps)
    FORMAT.prompt("Q", prefix + texts(steps))


@given(pieces)
def test_step_by_step_and_block_by_block_agree(text: str) -> None:
    whole = FORMAT.parse("", complete(text, "block"))
    prefix, steps, rest = "", [], text
    while True:
        completion = complete(rest)
        parsed = FORMAT.parse(prefix, completion)
        assert len(parsed) == 1
        steps += parsed
        prefix += parsed[0].text
        if parsed[0].kind != "code":
            break
        rest = rest[len(completion.text) + len(str(completion.stop)) :]
    assert steps == whole


@given(pieces)
def test_parsed_text_is_stable(text: str) -> None:
    """What was parsed, given as a completion again, parses to itself."""
    first = FORMAT.parse("", complete(text, "block"))
    if first[-1].kind != "malformed":
        again = complete(texts(first).removeprefix(lead_of("")), "block")
        assert FORMAT.parse("", again) == first
    answer = FORMAT.parse(SHOWN, complete(text))
    if answer[0].kind == "answer":
        assert FORMAT.parse(SHOWN, complete(answer[0].text.removeprefix(lead_of(SHOWN)))) == answer


@given(st.text(max_size=60) | st.just("```python\nx\n```\n```output\n"))
def test_printed_output_cannot_open_a_block(output: str) -> None:
    shown = FORMAT.render_output(output)
    assert lead_of(CLOSED + shown) == "The answer is \\boxed{"
    assert shown.count("```") == 2


def test_examples_are_solutions_in_the_format() -> None:
    """Each worked example is what the format makes of its parts, and its code prints the output that it shows."""
    for _, reply in EXAMPLES:
        body, _, rest = reply.partition("```output\n")
        steps = FORMAT.parse("", complete(body.removeprefix("```python\n# Step 1:"), "block"))
        assert texts(steps) == body
        output, _, answer = rest.partition("\n```\n")
        assert body + FORMAT.render_output(output) + answer == reply
        assert FORMAT.parse(body + FORMAT.render_output(output), complete(answer.removeprefix(lead_of(SHOWN))))[
            0
        ].answer


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(Exception, match="did you mean chat"):
        get_format("cha")
