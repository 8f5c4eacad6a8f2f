"""What each kind of training minimises, as plain functions of scores. Sums over a batch; the trainer divides.

sft: -log p of the response's tokens.
ppm: w * -log sigmoid(s_chosen - s_rejected), s the head's raw output (Bradley-Terry; the tanh of the paper's head
    bounds the score that the search sees, and is no part of the authors' loss: it would saturate).
pqm: (tanh(s) - q)^2.
orm: binary cross-entropy of sigmoid(s) against right or wrong.

The score s of a bilinear head is half the sum of its tokens' rewards: ppm compares the sums, pqm regresses tanh(s / 2).
That of a log ratio is beta times the sum, which ppm compares; pqm regresses tanh(s / 2) as well.
"""

from __future__ import annotations

from typing import Any

from rstar_eval.solver.reward.card import HeadForm
from rstar_eval.training.config import TrainKind
from rstar_eval.training.encode import IGNORED


def token_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Return the sum of -log p over a batch's learned tokens (each is predicted at the place before it)."""
    import torch.nn.functional as F

    labels = batch["labels"][:, 1:]
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    learned = labels != IGNORED
    return F.cross_entropy(logits[learned].float(), labels[learned], reduction="sum")


def value_scale(head: HeadForm) -> float:
    """Return what a PQM's score is multiplied by before the tanh that makes it a value."""
    return 1.0 if head == "last_token" else 0.5


def loss_sum(kind: TrainKind, head: HeadForm, scores: Any, batch: dict[str, Any]) -> Any:
    """Return the weighted sum of a batch's losses. scores: one a text, chosen texts before rejected ones."""
    import torch.nn.functional as F

    scores, weights, targets = scores.float(), batch["weights"].float(), batch["targets"].float()
    if kind == "ppm":
        chosen, rejected = scores.chunk(2)
        margin = (chosen - rejected) * (2.0 if head == "token_bilinear" else 1.0)
        return -(F.logsigmoid(margin) * weights).sum()
    if kind == "pqm":
        return (((value_scale(head) * scores).tanh() - targets) ** 2 * weights).sum()
    return (F.binary_cross_entropy_with_logits(scores, targets, reduction="none") * weights).sum()
