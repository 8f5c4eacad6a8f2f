"""The settings of a training, and the presets that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, Literal

from rstar_eval.errors import UserError, nearest
from rstar_eval.serial import from_data
from rstar_eval.solver.reward.card import HeadForm
from rstar_eval.training.rows import RowKind

TrainKind = Literal["sft", "ppm", "pqm", "orm"]
ROWS_OF: dict[TrainKind, RowKind] = {"sft": "sft", "ppm": "pairs", "pqm": "values", "orm": "outcomes"}
"""What kind of rows each kind of training learns from."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a model is trained. Presets `paper` and `mini` are in training/presets/.

    epochs: passes over the data (fractions allowed). max_steps: optimizer steps after which it ends whatever `epochs`
        says (-1: after `epochs`).
    optimizer: adamw, or muon (Muon for weight matrices, AdamW for embeddings, norms, biases and heads).
    learning_rate, schedule (linear, cosine, constant), warmup (share of the steps), weight_decay, adam_beta2,
        max_grad_norm (0: no clipping).
    batch_tokens: most tokens of one batch, padding and both sides of a pair counted (None: `batch_rows` rows instead).
    batch_rows: rows of one batch on one device. step_rows: rows of one optimizer step over all devices, from which the
        number of accumulated batches follows (None: `accumulate` batches).
    max_length: rows with more tokens are left out (and counted).
    learn_outputs: sft: whether printed outputs are learned too. add_marks: whether marks of the step grammar that are
        no tokens of the base model become tokens.
    head: where a reward model's value comes from: `last_token` (paper), `token_bilinear` or `token_logratio` (sums over
        the tokens). beta: what a log ratio is multiplied by.
    reduction: of the pairs' losses in an optimizer step: `mean` divides by their weights' sum, `sum` adds a batch's and
        averages over batches and devices (authors' code).
    precision: fp32, or bf16 (mixed: weights stay fp32). gradient_checkpointing: less memory, more time.
    attention: transformers' attention implementation. lora_rank: 0 trains all weights; lora_alpha: its scale.
    save_dtype: of the saved weights. seed: order of the batches, fresh weights, the held-out problems.
    save_steps: a resumable checkpoint every so many steps (0: none). log_steps: a TensorBoard point every so many
        (0: none). held_out: share of the problems whose rows are not trained on but measured at the end.
    """

    epochs: float = 1.0
    max_steps: int = -1
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 7e-6
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    batch_tokens: int | None = None
    batch_rows: int = 8
    step_rows: int | None = None
    accumulate: int = 1
    max_length: int = 2048
    learn_outputs: bool = True
    add_marks: bool = False
    head: HeadForm = "last_token"
    beta: float = 0.3
    reduction: Literal["mean", "sum"] = "mean"
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    lora_rank: int = 0
    lora_alpha: int = 16
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: int = 0
    save_steps: int = 0
    log_steps: int = 0
    held_out: float = 0.0


NOT_IDENTITY = frozenset({"save_steps", "log_steps"})
"""Settings that don't change what is trained."""

_ABOVE_ZERO = ("beta", "epochs", "learning_rate", "batch_tokens", "batch_rows", "step_rows", "accumulate", "max_length")
_ZERO_OR_MORE = ("weight_decay", "max_grad_norm", "lora_rank", "save_steps", "log_steps")


def presets() -> list[str]:
    """Return the names of the presets."""
    folder = resources.files("rstar_eval.training") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def preset(name: str, kind: TrainKind, **changes: object) -> TrainConfig:
    """Return the settings of a preset (`paper`, `mini`) for one kind, with `changes`. UserError for an unknown preset
    or setting, or a value that is out of range."""
    import yaml

    if kind not in ROWS_OF:
        raise UserError(f"unknown kind of training {kind!r}", nearest(kind, ROWS_OF))
    if name not in presets():
        raise UserError(f"unknown preset {name!r}", nearest(name, presets()))
    text = (resources.files("rstar_eval.training") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return make_config({**yaml.safe_load(text)[kind], **changes})


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Return settings with `values` in place of the defaults. UserError for an unknown one, or a value out of range."""
    known = [one.name for one in fields(TrainConfig)]
    for key in values:
        if key not in known:
            raise UserError(f"unknown training setting {key!r}", nearest(key, known))
    config = from_data(TrainConfig, {**asdict(TrainConfig()), **values}, "training settings")
    _check(config)
    return config


def _check(config: TrainConfig) -> None:
    for name in _ABOVE_ZERO:
        value = getattr(config, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name} is {value}", "give a number above 0")
    for name in _ZERO_OR_MORE:
        if getattr(config, name) < 0:
            raise UserError(f"{name} is {getattr(config, name)}", "give 0 or more")
    for name in ("warmup", "held_out"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}", "give a share of at least 0 and below 1")
    if not 0 < config.adam_beta2 < 1:
        raise UserError(f"adam_beta2 is {config.adam_beta2}", "give a number between 0 and 1")
    if config.max_steps != -1 and config.max_steps < 1:
        raise UserError(f"max_steps is {config.max_steps}", "give at least 1, or -1 for no limit")
    if config.step_rows is not None and config.batch_tokens is not None:
        raise UserError("step_rows and batch_tokens are both set", "give step_rows with batch_rows only")
