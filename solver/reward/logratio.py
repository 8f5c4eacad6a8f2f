"""The log-ratio head: a reward for each token, how much likelier it became than under a reference policy.

    r_t = log p(x_t | x_<t) - log p_ref(x_t | x_<t)

p is a language model that begins as the reference, a policy, and is trained on comparisons; p_ref stays. The score of a
text is `beta` times the sum of r_t over the tokens of its solution that the policy wrote (printed outputs, between the
marks of format `rstar`, are the sandbox's). Under Bradley-Terry training this is DPO's implicit reward (Rafailov et al.
2023, arXiv 2305.18290); that its partial sums judge steps is Yuan et al.'s (2024, arXiv 2412.01981). Not the paper's
head: no value is read from one state, every token is judged by what the policy already knows. The value in a tree is
tanh(score / 2), whose odds are exp(score).

A checkpoint is the trained model's folder with the reference in `reference/`, and the card (reward/card.py, head
`token_logratio`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rstar_eval.solver.reward.engines import ScoreEngine, ScoreInput

REFERENCE = "reference"
"""The reference policy's folder in a checkpoint."""


def logratio_model(causal: Any, reference: Any) -> Any:
    """Return a torch module of two causal models, `.lm`, which is trained, and `.reference`, which is not.

    Called with `input_ids` (batch x length) it returns the rewards of the tokens (batch x length, float32; 0 at each
    row's place 0).
    """
    import torch

    class LogRatioReward(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lm = causal
            self.reference = reference.requires_grad_(False).eval()
            self.config = causal.config

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.reference.eval()  # whatever the mode: it says what the policy says
            return self

        def tie_weights(self, *given: Any, **named: Any) -> None:
            """Tie what both models tie, as whoever moves them to other devices asks of a model."""
            self.lm.tie_weights(*given, **named)
            self.reference.tie_weights(*given, **named)

        def forward(self, input_ids: Any) -> Any:
            mine = token_logprobs(self.lm(input_ids=input_ids, use_cache=False).logits, input_ids)
            with torch.no_grad():
                theirs = token_logprobs(self.reference(input_ids=input_ids, use_cache=False).logits, input_ids)
            return torch.nn.functional.pad(mine - theirs, (1, 0))

    return LogRatioReward()


def token_logprobs(logits: Any, input_ids: Any) -> Any:
    """Return log p of each token but the first (batch x length - 1, float32), read from the logits before it."""
    import torch.nn.functional as F

    return -F.cross_entropy(logits[:, :-1].float().transpose(1, 2), input_ids[:, 1:], reduction="none")


class DifferenceEngine:
    """Reads the trained model's and the reference's log probabilities side by side and returns their differences
    (engines.ScoreEngine)."""

    def __init__(self, trained: ScoreEngine, reference: ScoreEngine) -> None:
        self._trained, self._reference = trained, reference
        self.context = min(trained.context, reference.context)

    async def logits(self, inputs: Sequence[ScoreInput]) -> list[list[list[float]]]:
        """Return log p - log p_ref of the token at each place (engines.ScoreEngine.logits)."""
        mine, theirs = await asyncio.gather(self._trained.logits(inputs), self._reference.logits(inputs))
        return [
            [[one[0] - other[0]] for one, other in zip(places, others, strict=True)]
            for places, others in zip(mine, theirs, strict=True)
        ]

    def describe(self) -> Mapping[str, object]:
        """Return the trained model's engine and, under `reference`, the weights' hash of the other."""
        return {**self._trained.describe(), REFERENCE: self._reference.describe().get("sha256")}

    async def close(self) -> None:
        """End both engines. May be called twice."""
        await asyncio.gather(self._trained.close(), self._reference.close())
