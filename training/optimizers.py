"""Muon for the weight matrices, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024; torch.optim.Muon) replaces a matrix's momentum by the nearest semi-orthogonal matrix. A small
model learns to copy and to bind names to numbers in a fraction of AdamW's steps (docs/mini-world.md). The size of its
updates is matched to AdamW's (Liu et al. 2025), so that both take the same learning rate.

This module imports torch at once: import it inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_APART = ("embed_tokens", "lm_head", "score", "bilinear")
"""Parts of names of matrices that AdamW updates: embeddings and heads, whose rows stand for themselves."""


class MuonAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """Updates `matrices` by Muon and `others` by AdamW. Whole matrices are needed: not for sharded parameters."""

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        others: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        beta2: float,
    ) -> None:
        self._parts = (
            torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=(0.9, beta2)),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, group in zip(self._parts, self.param_groups, strict=True):
            # Loading a state and schedules of the learning rate replace what the parts were made with.
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss


def muon_adamw(model: Any, *, lr: float, weight_decay: float, beta2: float) -> MuonAdamW:
    """Return the optimizer for a model's parameters that are trained."""
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    chosen = [one.ndim == 2 and not any(part in name for part in _APART) for name, one in named]
    matrices = [one for (_, one), matrix in zip(named, chosen, strict=True) if matrix]
    others = [one for (_, one), matrix in zip(named, chosen, strict=True) if not matrix]
    return MuonAdamW(matrices, others, lr=lr, weight_decay=weight_decay, beta2=beta2)
