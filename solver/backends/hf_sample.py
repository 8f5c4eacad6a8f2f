"""Choosing the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEAD = 256
"""Most likely tokens that are looked at first; a row whose nucleus is larger gets the whole vocabulary sorted."""


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
    logits = logits.float()
    greedy = torch.tensor([t == 0 for t in temperatures], device=device)
    scale = torch.tensor([t or 1.0 for t in temperatures], device=device)
    probabilities = torch.softmax(logits / scale[:, None], dim=-1)
    top_p = torch.tensor(top_ps, device=device)
    uniform = torch.tensor(uniforms, dtype=torch.float64, device=device)
    head = min(HEAD, logits.shape[-1])
    values, indices = torch.topk(probabilities, head, dim=-1)
    chosen = indices.gather(1, _pick(values, uniform, top_p)[:, None])[:, 0]
    wide = (values.sum(-1) < top_p) & ~greedy
    if head < logits.shape[-1] and bool(wide.any()):
        rows = wide.nonzero()[:, 0]
        values, order = torch.sort(probabilities[rows], dim=-1, descending=True)
        chosen[rows] = order.gather(1, _pick(values, uniform[rows], top_p[rows])[:, None])[:, 0]
    chosen = torch.where(greedy, logits.argmax(-1), chosen)
    tokens: list[int] = chosen.tolist()
    return tokens


def log_probabilities(logits: Any, tokens: Sequence[int]) -> list[float]:
    """Return the natural log-probability of one token a row of `logits` (rows x vocabulary), at temperature 1."""
    import torch

    index = torch.tensor(tokens, device=logits.device)[:, None]
    logits = logits.float()
    values: list[float] = (logits.gather(1, index)[:, 0] - torch.logsumexp(logits, dim=-1)).tolist()
    return values


def _pick(values: Any, uniform: Any, top_p: Any) -> Any:
    """Return for each row the place in its descending probabilities at which its uniform number falls."""
    import torch

    values = values.double()
    cumulative = values.cumsum(-1)
    nucleus = torch.where(cumulative - values < top_p[:, None], values, 0.0)
    nucleus[:, 0] = values[:, 0]  # top_p 0 keeps the most likely token
    cumulative = nucleus.cumsum(-1)
    places = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
    # Rounding may put the number at the very end: the last token of the nucleus is then the right one.
    return torch.minimum(places, (nucleus > 0).sum(-1) - 1)
