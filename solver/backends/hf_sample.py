"""Choosing the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADS = (32, 1024)
"""Most likely tokens that are looked at first, and next by the rows whose nucleus is larger; then all are sorted."""


def next_tokens(
    logits: Any, uniforms: Sequence[float], temperatures: Sequence[float], top_ps: Sequence[float]
) -> list[int]:
    """Return one token a row of `logits` (rows x vocabulary), by nucleus sampling.

    The token is where the row's own uniform number in [0, 1) falls in the cumulative distribution of its nucleus, the
    smallest set of most likely tokens with at least `top_p` of the mass at the row's temperature (at 0: the most
    likely token). A row's choice depends on nothing but its own logits and its own number.
    """
    import torch

    device = logits.device
    settings = torch.tensor([*zip(uniforms, temperatures, top_ps, strict=True)], dtype=torch.float64, device=device)
    uniform, top_p = settings[:, 0], settings[:, 2]
    logits = logits.float()
    if min(temperatures) > 0:
        probabilities = torch.softmax(logits / settings[:, 1:2].float(), dim=-1)
    else:
        # In a distribution that is all at one place, every number falls there.
        greedy = settings[:, 1] == 0
        probabilities = torch.softmax(logits / settings[:, 1:2].float().masked_fill(greedy[:, None], 1.0), dim=-1)
        best = torch.zeros_like(probabilities).scatter_(1, logits.argmax(-1, keepdim=True), 1.0)
        probabilities = torch.where(greedy[:, None], best, probabilities)
    total = probabilities.double().sum(-1)
    chosen = torch.empty(len(uniforms), dtype=torch.long, device=device)
    rows = torch.arange(len(uniforms), device=device)
    for head in (*HEADS, logits.shape[-1]):
        head = min(head, logits.shape[-1])
        if head < logits.shape[-1]:
            values, order = torch.topk(probabilities, head, dim=-1)
        else:
            values, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
        places, wide = _pick(values, uniform, top_p, total)
        chosen[rows] = order.gather(1, places[:, None])[:, 0]
        left = wide.nonzero()[:, 0]
        if head == logits.shape[-1] or not len(left):
            break
        rows, probabilities = rows[left], probabilities[left]
        uniform, top_p, total = uniform[left], top_p[left], total[left]
    result: list[int] = chosen.tolist()
    return result


def log_probabilities(logits: Any, tokens: Sequence[int]) -> list[float]:
    """Return the natural log-probability of one token a row of `logits` (rows x vocabulary), at temperature 1."""
    import torch

    index = torch.tensor(tokens, device=logits.device)[:, None]
    logits = logits.float()
    values: list[float] = (logits.gather(1, index)[:, 0] - torch.logsumexp(logits, dim=-1)).tolist()
    return values


def _pick(values: Any, uniform: Any, top_p: Any, total: Any) -> tuple[Any, Any]:
    """Return for each row the place in its descending probabilities at which its uniform number falls, and whether it
    may fall behind these (the place then means nothing). `total`: the sum of all its probabilities."""
    import torch

    cumulative = values.double().cumsum(-1)
    # The nucleus ends with the first token that brings its mass to top_p; top_p 0 keeps the most likely token. At
    # top_p 1 it is the whole vocabulary, whose mass is known without sorting it.
    last = torch.searchsorted(cumulative, top_p[:, None].contiguous())
    beyond = last[:, 0] >= values.shape[-1]
    last = last.clamp_(max=values.shape[-1] - 1)
    mass = torch.where(top_p >= 1, total, cumulative.gather(1, last)[:, 0])
    places = torch.searchsorted(cumulative, (uniform * mass)[:, None].contiguous(), right=True)[:, 0]
    wide = torch.where(top_p >= 1, places >= values.shape[-1], beyond)
    # Rounding may put the number at the very end: the last token of the nucleus is then the right one.
    return torch.minimum(places, torch.where(top_p >= 1, values.shape[-1] - 1, last[:, 0])), wide
