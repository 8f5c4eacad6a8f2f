"""Rows as tokens, batches within their budget, and losses against formulas written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.training.batches import collate, in_order, plan
from rstar_eval.training.encode import IGNORED, Example, Text, encode
from rstar_eval.training.rows import OutcomeRow, PairRow, SftRow, ValueRow

PROMPT = "<|user|>:\nq\n<|assistant|>: Let's think step by step and solve the problem with code."


def example(length: int, sides: int = 1) -> Example:
    return Example(tuple(Text(tuple(range(2, length + 2)), 1) for _ in range(sides)))


@pytest.fixture(scope="module")
def tokenizer(base: Path):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(base)


def test_only_the_response_is_learned(tokenizer) -> None:
    row = SftRow("q", "<code>\nprint(1)\n<end_of_code>\n<output>1<end_of_output>\n<answer>\\boxed{1}<end_of_answer>")
    (text,) = encode([row], tokenizer, 999).examples[0].texts
    learned = [token for token, label in zip(text.tokens, text.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(text.tokens[: text.start]) == PROMPT
    assert tokenizer.decode(learned) == row.response + "<|endoftext|>"
    assert text.labels[text.start :] == text.tokens[text.start :]
    (partly,) = encode([row], tokenizer, 999, learn_outputs=False).examples[0].texts
    hidden = [t for t, label in zip(partly.tokens, partly.labels, strict=True) if label == IGNORED][partly.start :]
    assert tokenizer.decode(hidden) == "<output>1<end_of_output>"


def test_what_is_judged_begins_after_the_prompt(tokenizer) -> None:
    pair, value = (
        PairRow(PROMPT + "<code>a<end_of_step>", "bc", "d", 2, 2),
        ValueRow(PROMPT + "<code>a<end_of_step>", "b", -0.5),
    )
    outcome = OutcomeRow(PROMPT, "<code>xy", True)
    found = encode([pair], tokenizer, 999).examples[0]
    assert [tokenizer.decode(text.tokens[text.start :]) for text in found.texts] == ["bc", "d"]
    assert found.weight == 0.25
    found = encode([value], tokenizer, 999).examples[0]
    assert tokenizer.decode(found.texts[0].tokens[found.texts[0].start :]) == "<code>a<end_of_step>b", (
        "all that is written"
    )
    assert found.target == -0.5
    found = encode([outcome], tokenizer, 999).examples[0]
    assert (tokenizer.decode(found.texts[0].tokens[found.texts[0].start :]), found.target) == ("<code>xy", 1.0)


def test_long_rows_are_left_out_and_counted(tokenizer) -> None:
    rows = [SftRow("q", "a"), SftRow("q", "a" * 500), SftRow("q", "lone \ud800")]
    found = encode(rows, tokenizer, 200)
    assert ([one.row for one in found.examples], found.too_long) == ([0, 2], 1)
    with pytest.raises(UserError, match="all 3 rows"):
        encode(rows, tokenizer, 10)


def test_texts_are_cut_into_tokens_some_rows_at_a_time(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    from rstar_eval.training import encode as module

    rows = [PairRow(PROMPT + "a" * n, "b" * n, "c", 1, 1) for n in range(7)]
    whole = encode(rows, tokenizer, 999)
    most = []
    tokens = module._tokens
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    monkeypatch.setattr(module, "_tokens", lambda texts, one: most.append(len(texts)) or tokens(texts, one))
    assert encode(rows, tokenizer, 999) == whole
    assert most == [6, 6, 2]


def test_batches_keep_to_their_budget_and_hold_every_row_once_an_epoch() -> None:
    examples = [example(length) for length in [5, 90, 30, 31, 7, 60, 8, 33, 250, 29, 6, 58]]
    batches = plan(examples, 3, batch_tokens=120, batch_rows=1, seed=1)
    assert sorted(at for batch in batches for at in batch) == sorted(list(range(12)) * 3)
    for batch in batches:
        longest = max(examples[at].length for at in batch)
        assert len(batch) * longest <= 120 or len(batch) == 1
    assert batches == plan(examples, 3, batch_tokens=120, batch_rows=1, seed=1)
    assert batches != plan(examples, 3, batch_tokens=120, batch_rows=1, seed=2)
    assert [len(batch) for batch in plan(examples, 1, batch_tokens=None, batch_rows=5, seed=1)].count(5) == 2
    assert len(plan(examples, 0.5, batch_tokens=None, batch_rows=1, seed=1)) == 6
    pairs = [example(40, 2), example(40, 2)]
    assert len(plan(pairs, 1, batch_tokens=120, batch_rows=9, seed=0)) == 2, "both sides of a pair count"
    assert sorted(at for batch in in_order(examples, 120, 9) for at in batch) == list(range(12))


def test_collated_pairs_have_chosen_texts_first() -> None:
    pytest.importorskip("torch")
    one = Example((Text((2, 3, 4), 1), Text((2, 5), 1)), 1.0, 0.5)
    other = Example((Text((6, 7), 1), Text((6, 8, 9, 10), 2)), 1.0, 1.0)
    batch = collate([one, other], pad=0)
    assert batch["input_ids"].tolist() == [[2, 3, 4, 0], [6, 7, 0, 0], [2, 5, 0, 0], [6, 8, 9, 10]]
    assert batch["spans"].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    assert batch["weights"].tolist() == [0.5, 1.0]


def test_losses() -> None:
    torch = pytest.importorskip("torch")
    from rstar_eval.training.losses import loss_sum

    batch = {"weights": torch.tensor([0.25, 1.0]), "targets": torch.tensor([1.0, -0.5])}
    scores = torch.tensor([1.0, -0.5, 0.25, 2.0])  # chosen, chosen, rejected, rejected
    expected = 0.25 * math.log(1 + math.exp(-0.75)) + math.log(1 + math.exp(2.5))
    assert float(loss_sum("ppm", "last_token", scores, batch)) == pytest.approx(expected, rel=1e-5)
    doubled = 0.25 * math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(5))
    assert float(loss_sum("ppm", "token_bilinear", scores, batch)) == pytest.approx(doubled, rel=1e-5)
    two = torch.tensor([0.3, -1.0])
    squares = 0.25 * (math.tanh(0.3) - 1) ** 2 + (math.tanh(-1) + 0.5) ** 2
    assert float(loss_sum("pqm", "last_token", two, batch)) == pytest.approx(squares, rel=1e-5)
    labels = {"weights": torch.ones(2), "targets": torch.tensor([1.0, 0.0])}
    crossed = math.log(1 + math.exp(-0.3)) + math.log(1 + math.exp(-1.0))
    assert float(loss_sum("orm", "last_token", two, labels)) == pytest.approx(crossed, rel=1e-5)
