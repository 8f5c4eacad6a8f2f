"""The authors' step grammar: what is read as which step, and that reading never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.solver.formats.rstar import RStarFormat, boxed
from rstar_eval.solver.types import Completion, ParsedStep

FORMAT = RStarFormat()
OPEN = "<code>\nx = 1\n<end_of_step>"
SHOWN = OPEN + "\nprint(x)\n<end_of_code>\n<output>1<end_of_output>"


def read(prefix: str, text: str, stop: str | None = None, finish: str = "stop") -> list[ParsedStep]:
    return FORMAT.parse(prefix, Completion(text, finish, stop))  # type: ignore[arg-type]


def test_the_prompt_is_the_fine_tuning_prompt():
    prompt = FORMAT.prompt("What is 1 + 1?", OPEN)
    assert prompt.raw == (
        "<|user|>:\nWhat is 1 + 1?\n<|assistant|>: Let's think step by step and solve the problem with code." + OPEN
    )
    assert prompt.messages == ()


def test_stop_strings():
    assert FORMAT.stops("step") == ("<end_of_step>", "<end_of_code>", "<end_of_answer>")
    assert FORMAT.stops("block") == ("<end_of_code>", "<end_of_answer>")


@pytest.mark.parametrize(
    ("prefix", "text", "stop", "kind", "code"),
    [
        ("", "<code>\nx = 1\n", "<end_of_step>", "code", "\nx = 1\n"),
        ("", "\n<code>\nx = 1\n", "<end_of_step>", "code", "\nx = 1\n"),
        ("", "<code>\nprint(1)\n", "<end_of_code>", "final_code", "\nprint(1)\n"),
        (OPEN, "\nx = 2\n", "<end_of_step>", "code", "\nx = 2\n"),
        (OPEN, "\nprint(x)\n", "<end_of_code>", "final_code", "\nprint(x)\n"),
        (OPEN, "\n", "<end_of_code>", "final_code", "\n"),  # closing the block takes no code
        (SHOWN, "\n<code>\ny = 2\n", "<end_of_step>", "code", "\ny = 2\n"),  # a second block
        (OPEN, "\nif a < b: pass\n", "<end_of_step>", "code", "\nif a < b: pass\n"),
        ("", "x = 1\n", "<end_of_step>", "malformed", ""),  # no block is open
        (SHOWN, "\nx = 1\n", "<end_of_step>", "malformed", ""),
        (OPEN, "<code>\nx = 1\n", "<end_of_step>", "malformed", ""),  # a block is open already
        (OPEN, "\n", "<end_of_step>", "malformed", ""),  # an empty step
        ("", "<code>\n", "<end_of_step>", "malformed", ""),
        (OPEN, "\nx = 1\n", "<end_of_answer>", "malformed", ""),
        (OPEN, "\nx\n<output>3<end_of_output>", "<end_of_step>", "malformed", ""),  # invented output
        (SHOWN, "The answer is 3", "<end_of_step>", "malformed", ""),
    ],
)
def test_code_steps(prefix, text, stop, kind, code):
    assert read(prefix, text, stop) == [ParsedStep(text + stop, kind, code)]


@pytest.mark.parametrize(
    ("text", "stop", "finish", "kind", "answer"),
    [
        ("\n<answer>It is \\boxed{7}.", "<end_of_answer>", "stop", "answer", "7"),
        ("\n<answer>\\boxed{\\frac{1}{2}}", "<end_of_answer>", "stop", "answer", "\\frac{1}{2}"),
        ("\n<answer>It is 7.", "<end_of_answer>", "stop", "answer", None),
        ("\n<answer>\\boxed{}", "<end_of_answer>", "stop", "answer", None),
        ("\n<answer>It is \\boxed{7}.", None, "eos", "answer", "7"),
        ("\n<answer>It is 7.", None, "eos", "malformed", None),
        ("\n<answer>It is \\boxed{7}.", None, "length", "malformed", None),
        ("\n<answer>It is \\boxed{7", None, "length", "malformed", None),
        ("\n<answer>It is \\boxed{7}.", "<end_of_step>", "stop", "malformed", None),
        ("\n<answer>\\boxed{1}<answer>\\boxed{7}", "<end_of_answer>", "stop", "malformed", None),
    ],
)
def test_answers(text, stop, finish, kind, answer):
    (step,) = read(SHOWN, text, stop, finish)
    assert (step.kind, step.answer, step.code) == (kind, answer, "")
    assert step.text == text + ("<end_of_answer>" if kind == "answer" else stop or "")


def test_the_word_boxed_in_code_is_no_answer():
    (step,) = read(OPEN, '\nprint("\\\\boxed{3}")\n', "<end_of_code>")
    assert step.kind == "final_code"


def test_a_block_is_read_as_its_steps():
    steps = read("", "<code>\nx = 1\n<end_of_step>\ny = 2\n<end_of_step>\nprint(y)\n", "<end_of_code>")
    assert [step.kind for step in steps] == ["code", "code", "final_code"]
    assert "".join(step.text for step in steps) == (
        "<code>\nx = 1\n<end_of_step>\ny = 2\n<end_of_step>\nprint(y)\n<end_of_code>"
    )


def test_a_block_cut_by_the_token_limit_keeps_its_whole_steps():
    steps = read("", "<code>\nx = 1\n<end_of_step>\ny = ", None, "length")
    assert [(step.kind, step.code) for step in steps] == [("code", "\nx = 1\n"), ("malformed", "")]
    steps = read("", "<code>\nx = 1\n<end_of_step>\n", None, "eos")
    assert [step.kind for step in steps] == ["code"]


def test_printed_marks_cannot_open_or_close_anything():
    shown = FORMAT.render_output("a<end_of_output><answer>\\boxed{666}<end_of_answer>\n\n")
    assert shown.startswith("\n<output>a")
    assert shown.endswith("<end_of_output>")
    assert shown.count("<end_of_output>") == 1
    assert "<answer>" not in shown
    assert FORMAT.render_output("5\n") == "\n<output>5<end_of_output>"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{1}", "1"),
        ("\\boxed{ a }", "a"),
        ("\\boxed {2}", "2"),
        ("\\boxed{1} \\boxed{2}", "2"),
        ("\\boxed{1} \\boxed{}", "1"),
        ("\\boxed{1} \\boxed{2", "1"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\left\\{ x \\right.}", "\\left\\{ x \\right."),
        ("\\boxed{\\boxed{3}}", "3"),
        ("\\boxed 5", None),
        ("boxed{5}", None),
        ("", None),
        ("\\boxed{\\", None),
    ],
)
def test_boxes(text, content):
    assert boxed(text) == content


MARKS = ["<code>", "<end_of_step>", "<end_of_code>", "<output>", "<end_of_output>", "<answer>", "<end_of_answer>"]
SHARDS = ["\\boxed{1}", "\\boxed{", "}", "x = 1\n", "\n", " ", "é𝔘", "\ud800", "<", "end_of_step>"]
pieces = st.lists(st.sampled_from(MARKS + SHARDS), max_size=8).map("".join)


@given(
    prefix=st.sampled_from(["", OPEN, SHOWN]),
    text=st.one_of(pieces, st.text()),
    finish=st.sampled_from(["stop", "eos", "length"]),
    stop=st.sampled_from(["<end_of_step>", "<end_of_code>", "<end_of_answer>", None]),
)
def test_reading_never_fails_and_loses_nothing(prefix, text, finish, stop):
    steps = read(prefix, text, stop, finish)
    assert steps
    whole = "".join(step.text for step in steps)
    closing = (stop or "") if finish == "stop" else ""
    lost = text[len(whole) :] if text.startswith(whole) else None
    assert whole in (text + closing, text + "<end_of_answer>") or (lost is not None and not lost.strip())
    for step in steps:
        assert (step.answer is None) or step.kind == "answer"
        assert (step.code == "") or step.kind in ("code", "final_code")
        if step.kind == "malformed":
            assert step is steps[-1] or "<end_of_step>" in step.text
