"""What a trained model does on rows that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.batches import collate, in_order
from rstar_eval.training.config import TrainConfig, TrainKind
from rstar_eval.training.encode import IGNORED, Example
from rstar_eval.training.losses import value_scale
from rstar_eval.training.models import score_texts
from rstar_eval.training.rows import PairRow, Row
from rstar_eval.training.statistics import problem_key

_TOKENS = 4096


def split(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return rows to train on and rows to hold out: those of about `share` of the problems, chosen by seed and problem
    alone, so that no problem is on both sides."""
    kept: list[Row] = []
    held: list[Row] = []
    for row in rows:
        out = derive_seed(seed, "held out", problem_key(row)) / 2**31 < share
        (held if out else kept).append(row)
    return kept, held


def measure(
    kind: TrainKind, model: Any, examples: Sequence[Example], rows: Sequence[Row], pad: int, config: TrainConfig
) -> dict[str, float]:
    """Return the figures of `examples` (made of `rows`), all unweighted.

    sft: loss a token, and the share of tokens that the model would have chosen. ppm: share of pairs in the right order,
    in all and by kind (a tie counts half). pqm: mean squared error and correlation of tanh(score) with Q. orm: accuracy
    at score 0, and the area under the ROC curve (None of either if one class is missing).
    """
    import torch

    model.eval()
    device = next(model.parameters()).device
    found: dict[int, list[float]] = {}
    losses, hits, tokens = 0.0, 0, 0
    with torch.no_grad():
        for batch in in_order(examples, config.batch_tokens or _TOKENS, config.batch_rows):
            chosen = [examples[at] for at in batch]
            inputs = {key: value.to(device) for key, value in collate(chosen, pad).items()}
            if kind == "sft":
                labels = inputs["labels"][:, 1:]
                logits = model(input_ids=inputs["input_ids"]).logits[:, :-1].float()
                learned = labels != IGNORED
                log = torch.log_softmax(logits[learned], dim=-1)
                losses -= float(log.gather(1, labels[learned][:, None]).sum())
                hits += int((log.argmax(dim=-1) == labels[learned]).sum())
                tokens += int(learned.sum())
            else:
                scores = score_texts(model, inputs, config).float().tolist()
                for place, at in enumerate(batch):
                    found[at] = scores[place :: len(batch)]
    if kind == "sft":
        return {"loss": losses / tokens, "token_accuracy": hits / tokens}
    if kind == "ppm":
        return _pairs([(found[at], rows[one.row]) for at, one in enumerate(examples)])
    pairs = [(found[at][0], one.target) for at, one in enumerate(examples)]
    return _values(pairs, value_scale(config.head)) if kind == "pqm" else _labels(pairs)


def _pairs(scored: Sequence[tuple[list[float], Row]]) -> dict[str, float]:
    def accuracy(kinds: tuple[str, ...]) -> float | None:
        mine = [scores for scores, row in scored if isinstance(row, PairRow) and row.kind in kinds]
        right = sum(1.0 if one > other else 0.5 * (one == other) for one, other in mine)
        return right / len(mine) if mine else None

    figures = {"accuracy": accuracy(("step", "final")), "steps": accuracy(("step",)), "finals": accuracy(("final",))}
    return {key: value for key, value in figures.items() if value is not None}


def _values(pairs: Sequence[tuple[float, float]], scale: float) -> dict[str, float]:
    import numpy as np

    values, targets = np.tanh([scale * score for score, _ in pairs]), np.array([target for _, target in pairs])
    figures = {"squared_error": float(((values - targets) ** 2).mean())}
    if values.std() > 0 and targets.std() > 0:
        figures["correlation"] = float(np.corrcoef(values, targets)[0, 1])
    return figures


def _labels(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    right = [score for score, target in pairs if target > 0.5]
    wrong = [score for score, target in pairs if target <= 0.5]
    figures = {"accuracy": (sum(s > 0 for s in right) + sum(s <= 0 for s in wrong)) / len(pairs)}
    if right and wrong:
        from scipy.stats import rankdata

        ranks = rankdata([*right, *wrong])[: len(right)]
        figures["auc"] = float((ranks.sum() - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong)))
    return figures
