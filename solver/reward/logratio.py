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

    Called with `input_ids` (batch x length) and `spans` (the same shape, 1 where a token is judged) it returns the
    rewards of the judged tokens (batch x length, float32; 0 elsewhere, and at a text's first token). With `forks`
    (batch x 2) each row holds two texts that begin alike: one as it is, then what is the other's own. A fork says where
    the texts part and where the other's part begins; masks and positions keep the two from seeing each other.
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

        def forward(self, input_ids: Any, spans: Any, forks: Any = None) -> Any:
            given = {} if forks is None else forked(forks, input_ids.shape[1], next(self.lm.parameters()).dtype)
            rows, places = torch.nonzero(spans[:, 1:], as_tuple=True)
            before, places = places, places + 1
            if forks is not None:
                before = torch.where(places == forks[rows, 1], forks[rows, 0] - 1, before)
            at = (rows, before, input_ids[rows, places])
            mine = _logprobs(self.lm, input_ids, given, at)
            with torch.no_grad():
                theirs = _logprobs(self.reference, input_ids, given, at)
            rewards = torch.zeros(input_ids.shape, device=input_ids.device)
            return rewards.index_put((rows, places), mine - theirs)

    return LogRatioReward()


def _logprobs(lm: Any, input_ids: Any, given: Mapping[str, Any], at: tuple[Any, Any, Any]) -> Any:
    """Return log p of tokens (float32): `at` says the row and the place of the state before each, and the token. The
    vocabulary is computed there alone; check_plain_logits has made sure that a head's logits are no more than that."""
    import torch.nn.functional as F

    rows, before, tokens = at
    states = lm.base_model(input_ids=input_ids, use_cache=False, **given).last_hidden_state
    logits = lm.get_output_embeddings()(states[rows, before])
    return -F.cross_entropy(logits.float(), tokens, reduction="none")


def forked(forks: Any, length: int, dtype: Any) -> dict[str, Any]:
    """Return mask (batch x 1 x length x length, added to attention's scores) and positions (batch x length) of rows of
    two texts (see logratio_model)."""
    import torch

    places = torch.arange(length, device=forks.device)
    parting, second = forks[:, 0, None], forks[:, 1, None]
    others = places >= second
    first = (places >= parting) & ~others
    hidden = (places[None, :] > places[:, None]) | (others[:, :, None] & first[:, None, :])
    mask = torch.zeros(hidden.shape, dtype=dtype, device=forks.device).masked_fill_(hidden, torch.finfo(dtype).min)
    return {"attention_mask": mask[:, None], "position_ids": torch.where(others, places - second + parting, places)}


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
