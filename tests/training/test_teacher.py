"""The bootstrap author and the mini tokenizer: grammar, systematic mistakes, determinism, nothing unreadable."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from rstar_eval.solver.formats.rstar import RStarFormat, prompt_text
from rstar_eval.solver.types import Completion
from rstar_eval.tasks.mini import generate
from rstar_eval.training.teacher import Author, corpus, corpus_texts, demonstrate

PERFECT = Author(misread={"A": 0.0, "B": 0.0, "C": 0.0}, slip=0.0)


def parsed(response: str) -> list:
    """The steps of a response, read as the solver would read them."""
    block, _, rest = response.partition("<end_of_code>")
    answer = rest.partition("<end_of_output>")[2]
    form = RStarFormat()
    steps = form.parse("", Completion(block, "stop", "<end_of_code>"))
    steps += form.parse(
        f"{block}<end_of_code>", Completion(answer.removesuffix("<end_of_answer>"), "stop", "<end_of_answer>")
    )
    return steps


def test_demonstrations_are_readable_steps_whose_code_prints_the_boxed_answer() -> None:
    for one in corpus(150, 3):
        steps = parsed(one.response)
        kinds = [step.kind for step in steps]
        assert kinds[-2:] == ["final_code", "answer"], one.response
        assert set(kinds[:-2]) <= {"code"}
        printed: list[str] = []
        exec("".join(step.code for step in steps), {"print": lambda value, to=printed: to.append(str(value))})  # noqa: S102
        assert printed == [steps[-1].answer]
        assert f"<output>{printed[0]}<end_of_output>" in one.response


def test_an_author_without_mistakes_is_always_right() -> None:
    assert all(one.right for one in corpus(120, 5, PERFECT))


def test_an_author_who_falls_for_every_trap_gives_the_wrong_answer_of_each_problem() -> None:
    from random import Random

    blind = Author(misread={"A": 1.0, "B": 1.0, "C": 1.0}, slip=0.0)
    for item in generate("train", 4, 60, 8):
        one = demonstrate(item, blind, Random(1))
        assert one.right == (item.wrong_answer is None)
        assert f"\\boxed{{{item.wrong_answer or item.answer}}}" in one.response


def test_rare_traps_are_misread_more_often() -> None:
    from random import Random

    author, rng = Author(slip=0.0), Random(2)
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for item in generate("train", 1, 1500, 4):
        tier = item.steps[0].tier
        seen[tier] += 1
        right[tier] += demonstrate(item, author, rng).right
    share = {tier: right[tier] / seen[tier] for tier in seen}
    assert share["plain"] == 1.0
    assert 0.27 < share["A"] < 0.47
    assert 0.09 < share["B"] < 0.21
    assert 0.13 < share["C"] < 0.27


def test_slips_are_wrong_steps_that_run() -> None:
    careless = Author(misread={"A": 0.0, "B": 0.0, "C": 0.0}, slip=1.0)
    answers = [one.right for one in corpus(80, 6, careless)]
    assert sum(answers) < 40


def test_corpus_is_a_function_of_its_arguments_and_keeps_to_its_levels() -> None:
    first = list(corpus(200, 7))
    assert first == list(corpus(200, 7))
    assert first != list(corpus(200, 8))
    assert {one.level for one in first} == {"1", "2", "3", "drill", "chain", "college", "gaokao"}
    assert len({one.question for one in first}) == 200
    assert corpus_texts(200, 7) == {one.question for one in first}


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("transformers")
    from rstar_eval.training.mini_tokenizer import build_tokenizer

    return build_tokenizer()


def test_texts_survive_the_tokenizer_unchanged_and_unknown_ones_too(tokenizer) -> None:
    texts = [prompt_text(one.question) + one.response for one in corpus(60, 9)]
    texts += ["Überall 1234567 λ→\t\U0001f600", "  leading\n\n\nlines ", "def f(x):\n    return x ** 2", ""]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_words_numbers_and_marks_of_the_mini_world_are_one_token_each(tokenizer) -> None:
    for piece in (
        "<code>",
        "<end_of_step>",
        "<end_of_answer>",
        " Victor",
        "victor",
        " marbles",
        " 96",
        "07",
        "\\boxed{",
    ):
        assert len(tokenizer(piece)["input_ids"]) == 1, piece
    prompt = prompt_text("Ben has 12 coins.")
    assert len(tokenizer(prompt)["input_ids"]) == 7
    for level in ("3", "aime", "olympiad"):
        for item in generate("test", level, 40, 1):
            spelt = [one for one in tokenizer.tokenize(item.text) if len(one) == 1 and "a" <= one.lower() <= "z"]
            assert set(spelt) <= {"s"}, item.text  # of "Ben's"; no other word falls back to letters


def test_marks_stay_in_decoded_text_where_special_tokens_are_left_out(tokenizer) -> None:
    ids = [*tokenizer("<code>\nx = 1\n<end_of_step>")["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<code>\nx = 1\n<end_of_step>"


def test_saved_tokenizer_loads_without_our_code(tokenizer, tmp_path) -> None:
    from transformers import AutoTokenizer

    from rstar_eval.training.mini_tokenizer import save_tokenizer

    save_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = prompt_text("Ben has 12 coins.") + "<code>\nben = 12\n<end_of_step>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (loaded.eos_token, loaded.pad_token) == ("<|endoftext|>", "<|pad|>")


def test_executor_runs_a_demonstration_as_the_teacher_did() -> None:
    """The printed output that the policy is trained on is what the sandbox will show it."""
    from rstar_eval.solver.executor import start_executor

    async def check() -> None:
        executor = await start_executor("accidents-only", workers=1, live_workers=4)
        try:
            for one in corpus(6, 11):
                session = await executor.open("x")
                node, output = None, ""
                for step in parsed(one.response)[:-1]:
                    run = await session.run(node, step.code)
                    assert run.status == "ok", (step.code, run.error)
                    node, output = run.node, output + run.output
                await session.close()
                assert RStarFormat().render_output(output) in one.response
        finally:
            await executor.close()

    asyncio.run(check())
