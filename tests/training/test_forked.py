"""Pairs that share a row: the same comparison, and the same gradient, as of two rows."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.training.batches import collate, collate_forked
from rstar_eval.training.config import TrainConfig
from rstar_eval.training.encode import Example, Text
from rstar_eval.training.losses import loss_sum
from rstar_eval.training.models import score_texts

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIG = TrainConfig(head="token_logratio", beta=0.5)
ENDS = st.lists(st.integers(2, 5), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    from rstar_eval.solver.reward.logratio import logratio_model

    causal = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa")
    reference = deepcopy(causal)
    with torch.no_grad():
        for weights in causal.parameters():
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return logratio_model(causal, reference)


def pair(chosen: list[int], rejected: list[int], starts: tuple[int, int], printed: set[int] = frozenset()) -> Example:
    sides = zip((chosen, rejected), starts, strict=True)
    return Example(tuple(Text(tuple(one), start, printed=frozenset(printed)) for one, start in sides), 1.0, 0.7)


def gradients(model: Any, batch: dict[str, Any]) -> tuple[list[float], list[Any]]:
    model.zero_grad()
    scores = score_texts(model, batch, CONFIG)
    loss_sum("ppm", "token_logratio", scores, batch).backward()
    chosen, rejected = scores.detach().chunk(2)
    return (chosen - rejected).tolist(), [one.grad.clone() for one in model.lm.parameters()]


PAIRS = {
    "a step each": [pair([2, 3, 4, 5, 6], [2, 3, 4, 7, 8, 9], (3, 3))],
    "the steps begin alike": [pair([2, 3, 4, 5, 6], [2, 3, 4, 7], (1, 1))],
    "the tokens part before the steps do": [pair([2, 3, 9, 5, 6], [2, 4, 7, 8], (3, 2))],
    "one begins with the other": [pair([2, 3, 4], [2, 3, 4, 7, 8], (1, 1)), pair([2, 3, 4, 7], [2, 3], (1, 1))],
    "nothing is shared": [pair([2, 3, 4], [5, 6], (0, 0)), pair([7], [8], (0, 0))],
    "outputs are not judged": [pair([2, 3, 4, 5, 6, 7], [2, 3, 8, 5, 9, 7], (1, 1), {3, 4})],
    "rows of unequal length": [pair([2, 3, 4, 5, 6, 7, 8], [2, 9], (1, 1)), pair([3, 4], [3, 5], (1, 1))],
    "nothing is judged": [pair([2, 3], [2, 3], (1, 1))],
}


@pytest.mark.parametrize("examples", PAIRS.values(), ids=PAIRS)
def test_margin_and_gradient_are_those_of_two_rows(model: Any, examples: list[Example]) -> None:
    margins, grads = gradients(model, collate(examples, 0))
    forked, forked_grads = gradients(model, collate_forked(examples, 0))
    assert forked == pytest.approx(margins, abs=1e-5)
    for mine, theirs in zip(forked_grads, grads, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    if examples is not PAIRS["nothing is judged"]:
        assert any(abs(one) > 1e-3 for one in [*margins, *(float(grad.abs().max()) for grad in grads)])


@given(st.lists(st.tuples(ENDS, ENDS, ENDS, st.integers(0, 9)), min_size=1, max_size=4))
def test_forked_rows_hold_both_texts(parts: list[tuple[list[int], list[int], list[int], int]]) -> None:
    examples = [
        pair(shared + one, shared + other, (min(start, len(shared) + len(one) - 1),) * 2)
        for shared, one, other, start in parts
    ]
    batch = collate_forked(examples, 0)
    rows = zip(batch["input_ids"].tolist(), batch["spans"].tolist(), batch["forks"].tolist(), strict=True)
    for example, (tokens, spans, (parting, second)) in zip(examples, rows, strict=True):
        chosen, rejected = example.texts
        own = len(rejected.tokens) - parting
        assert tuple(tokens[:second]) == chosen.tokens
        assert tuple(tokens[:parting] + tokens[second : second + own]) == rejected.tokens
        assert not any(tokens[second + own :] + spans[:parting] + spans[second + own :])
        assert spans[parting:second] == [int(at >= max(1, chosen.start)) for at in range(parting, second)]
        rest = range(parting, len(rejected.tokens))
        assert spans[second : second + own] == [int(at >= max(1, rejected.start)) for at in rest]
