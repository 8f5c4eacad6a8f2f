"""Training the policy and the reward models: one function, four kinds.

    train("sft", rows, base, output, config)     policy: loss on the response's tokens, from the base model
    train("ppm", ...)                            process preference model: Bradley-Terry on pairs
    train("pqm", ...)                            process Q model: regression on Q
    train("orm", ...)                            outcome reward model: cross-entropy on right or wrong

The output is a plain Hugging Face checkpoint (safetensors, tokenizer) with training.json beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rstar_eval.training.rows import Row

TrainKind = Literal["sft", "ppm", "pqm", "orm"]
HeadKind = Literal["last_token", "token_bilinear"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is trained. Presets `paper` and `mini` are in training/presets/.

    epochs: passes over the data. max_steps: optimizer steps after which it ends (-1: after `epochs`).
    learning_rate, schedule (linear, cosine, constant), warmup (share of the steps), weight_decay, max_grad_norm.
    batch_tokens: tokens of one batch, padding counted (None: batches of `batch_rows` rows instead). batch_rows: rows of
        one batch. accumulate: batches of one optimizer step.
    max_length: tokens after which a row is cut (sft) or left out (others; counted).
    head: where a reward model's value comes from. reduction: `mean` (weighted mean over the pairs of an optimizer
        step) or `sum`.
    precision: fp32 or bf16. gradient_checkpointing. lora_rank: 0 trains all weights. seed.
    save_steps: a resumable checkpoint every so many steps (0: none). log_steps: a TensorBoard point every so many
        (0: none). held_out: share of the problems whose rows are kept for evaluation.
    """

    epochs: float = 1.0
    max_steps: int = -1
    learning_rate: float = 7e-6
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    batch_tokens: int | None = None
    batch_rows: int = 8
    accumulate: int = 1
    max_length: int = 2048
    head: HeadKind = "last_token"
    reduction: Literal["mean", "sum"] = "mean"
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: int = 16
    seed: int = 0
    save_steps: int = 0
    log_steps: int = 10
    held_out: float = 0.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the checkpoint's folder, and what training.json says (data, settings, metrics)."""

    path: Path
    manifest: dict[str, Any]


def preset(name: str, kind: TrainKind, **changes: object) -> TrainConfig:
    """Return the settings of a preset (`paper`, `mini`) for one kind, with `changes`. UserError for unknown names."""
    raise NotImplementedError


def train(
    kind: TrainKind,
    rows: Sequence[Row],
    base: Path,
    output: Path,
    config: TrainConfig,
    *,
    progress: bool = False,
    facts: dict[str, Any] | None = None,
) -> Trained:
    """Train a model of `kind` from the checkpoint `base` and save it in `output`.

    rows: SftRow for sft, PairRow for ppm, ValueRow for pqm, OutcomeRow for orm. Reward models start from a policy's
    weights with a fresh head. If `output` holds the finished training of the same rows, base and settings, it is
    returned as it is; if it holds checkpoints of one that was stopped, it goes on from the last; of another: UserError.
    The same rows, base, settings and seed give the same weights bit for bit on CPU, interrupted or not.
    facts: added to training.json (e.g. the round). progress: a progress bar on standard error.
    """
    raise NotImplementedError
