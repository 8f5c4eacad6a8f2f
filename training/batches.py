"""Batches: rows of like length together, as many as fit a token budget, planned for the whole training at once.

The plan is a function of the lengths, the settings and the seed, so that a training that was killed finds its place by
counting, and batches of one epoch differ from those of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from random import Random
from typing import Any

from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.encode import IGNORED, Example

_JITTER = 0.1
"""How far lengths are blurred before rows are sorted, so that a batch's company changes from epoch to epoch."""


def plan(
    examples: Sequence[Example], epochs: float, *, batch_tokens: int | None, batch_rows: int, seed: int
) -> list[list[int]]:
    """Return the batches of all epochs in order, each the places of its examples.

    batch_tokens: most tokens of a batch, padding and both sides of pairs counted (a longer example is a batch alone);
    None: batches of `batch_rows` examples. A fraction of an epoch is that share of its batches.
    """
    batches: list[list[int]] = []
    left = epochs
    epoch = 0
    while left > 1e-9:
        random = Random(derive_seed(seed, "batches", epoch))
        blurred = [(one.length * random.uniform(1 - _JITTER, 1 + _JITTER), at) for at, one in enumerate(examples)]
        found = _fill([at for _, at in sorted(blurred)], examples, batch_tokens, batch_rows)
        random.shuffle(found)
        batches += found if left >= 1 else found[: max(1, round(left * len(found)))]
        left, epoch = left - 1, epoch + 1
    return batches


def in_order(examples: Sequence[Example], batch_tokens: int | None, batch_rows: int) -> list[list[int]]:
    """Return every example once, by length: for evaluation."""
    order = sorted(range(len(examples)), key=lambda at: examples[at].length)
    return _fill(order, examples, batch_tokens, batch_rows)


def _fill(order: Sequence[int], examples: Sequence[Example], tokens: int | None, rows: int) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for at in order:
        one = examples[at]
        longest = max(longest, one.length)
        count = len(batches[-1]) + 1 if batches else 1
        full = count > rows if tokens is None else count * longest * len(one.texts) > tokens
        if not batches or full:
            batches.append([at])
            longest = one.length
        else:
            batches[-1].append(at)
    return batches


def collate(examples: Sequence[Example], pad: int) -> dict[str, Any]:
    """Return a batch as tensors, padded on the right: input_ids (texts x tokens), and for sft labels, else spans (texts
    x tokens: 1 where a token is judged), targets and weights (examples). Of pairs all chosen texts come first, then all
    rejected ones. There is no attention mask: a causal model sees no padding on the right, and is faster without."""
    import torch

    sides = len(examples[0].texts)
    texts = [one.texts[side] for side in range(sides) for one in examples]
    ids = _padded([text.tokens for text in texts], pad)
    lengths = torch.tensor([len(text.tokens) for text in texts])
    places = torch.arange(ids.shape[1])
    mask = (places[None, :] < lengths[:, None]).long()
    if texts[0].labels:
        return {"input_ids": ids, "labels": _padded([text.labels for text in texts], IGNORED)}
    spans = mask * (places[None, :] >= torch.tensor([text.start for text in texts])[:, None]).long()
    for at, text in enumerate(texts):
        spans[at, list(text.printed)] = 0
    return {"input_ids": ids, "spans": spans, **_worth(examples)}


def collate_forked(examples: Sequence[Example], pad: int) -> dict[str, Any]:
    """Return a batch of pairs as `collate` does, but each pair in one row: the chosen text, then what the rejected one
    has behind the tokens that both begin with, which are computed once and judged in neither. `forks` (pairs x 2) says
    where the texts part and where the rejected one's own part begins."""
    import torch

    rows, spans, forks = [], [], []
    for chosen, rejected in (one.texts for one in examples):
        alike = (one == other for one, other in zip(chosen.tokens, rejected.tokens, strict=False))
        shared = sum(1 for _ in takewhile(bool, alike))
        rows.append((*chosen.tokens, *rejected.tokens[shared:]))
        judged = [0] * shared
        for text in (chosen, rejected):
            own = range(shared, len(text.tokens))
            judged += [int(at >= max(text.start, 1) and at not in text.printed) for at in own]
        spans.append(judged)
        forks.append((shared, len(chosen.tokens)))
    return {
        "input_ids": _padded(rows, pad),
        "spans": _padded(spans, 0),
        "forks": torch.tensor(forks),
        **_worth(examples),
    }


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Any:
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def _worth(examples: Sequence[Example]) -> dict[str, Any]:
    import torch

    return {
        "targets": torch.tensor([one.target for one in examples]),
        "weights": torch.tensor([one.weight for one in examples]),
    }


class Planned:
    """The planned batches as a dataset: one item is one batch's examples."""

    def __init__(self, examples: Sequence[Example], batches: Sequence[Sequence[int]]) -> None:
        self._examples, self._batches = examples, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, at: int) -> list[Example]:
        return [self._examples[place] for place in self._batches[at]]

    @property
    def tokens(self) -> int:
        """Tokens of all batches, without padding."""
        lengths = [sum(len(text.tokens) for text in one.texts) for one in self._examples]
        return sum(lengths[place] for batch in self._batches for place in batch)
