"""Muon for the weight matrices, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest semi-orthogonal matrix. A small model learns to
copy and to bind names to numbers in a fraction of AdamW's steps (docs/mini-world.md). The size of its updates is
matched to AdamW's (Liu et al. 2025), so that both take the same learning rate.

Not torch.optim.Muon, which iterates in bfloat16 whatever the device: a CPU without bfloat16 arithmetic emulates it, and
the miniature's steps took four to five times as long there. On a CPU ours iterates in float32, matrices of one shape
together.

This module imports torch at once: import it inside functions only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

_APART = ("embed_tokens", "lm_head", "score", "bilinear")
"""Parts of names of matrices that AdamW updates: embeddings and heads, whose rows stand for themselves."""
_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration (Jordan et al. 2024): singular values end near 1, not at it, but for the smallest."""
_ITERATIONS = 5


def semi_orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Return the (n, rows, columns) matrices with their singular values brought near 1, by Newton-Schulz iteration."""
    x = matrices.to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Muon with Nesterov momentum, for matrices only."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient once."""
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, torch.device], list[torch.nn.Parameter]] = {}
            for one in group["params"]:
                if one.grad is not None:
                    by_shape.setdefault((one.shape, one.device), []).append(one)
            for (shape, _), same in by_shape.items():
                directions = semi_orthogonal(torch.stack([self._direction(one) for one in same]))
                for one, direction in zip(same, directions, strict=True):
                    one.mul_(1 - group["lr"] * group["weight_decay"])
                    one.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))

    def _direction(self, one: torch.nn.Parameter) -> torch.Tensor:
        state = self.state[one]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(one.grad)
        momentum = state["momentum_buffer"]
        momentum.lerp_(one.grad, 1 - _MOMENTUM)
        return one.grad.lerp(momentum, _MOMENTUM)


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
            Muon(matrices, lr=lr, weight_decay=weight_decay),
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
