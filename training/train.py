"""Training the policy and the reward models: one function, four kinds.

    train("sft", rows, base, output, config)     policy: loss on the response's tokens, from the base model
    train("ppm", ...)                            process preference model: Bradley-Terry on pairs
    train("pqm", ...)                            process Q model: regression on Q
    train("orm", ...)                            outcome reward model: cross-entropy on right or wrong

The output is a plain Hugging Face checkpoint (safetensors, tokenizer) with training.json beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rstar_eval.errors import UserError, nearest
from rstar_eval.solver.reward.card import RewardCard, write_card
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.checkpoint import LOGS, claim, finish, identity, last_complete
from rstar_eval.training.config import ROWS_OF, TrainConfig, TrainKind, preset
from rstar_eval.training.datasets import rows_digest
from rstar_eval.training.rows import ROW_KINDS, Row

__all__ = ["TrainConfig", "TrainKind", "Trained", "preset", "train"]

_MEASURED, _HELD = 64, 5000
"""How many training rows, the first ones, and held-out rows, drawn by the seed, are measured at the end, at most."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the checkpoint's folder, and what training.json says (data, settings, metrics)."""

    path: Path
    manifest: dict[str, Any]


def train(
    kind: TrainKind,
    rows: Sequence[Row],
    base: Path,
    output: Path,
    config: TrainConfig,
    *,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a model of `kind` from the checkpoint `base` and save it in `output`.

    rows: SftRow for sft, PairRow for ppm, ValueRow for pqm, OutcomeRow for orm. Reward models start from a policy's
    weights with a fresh head. If `output` holds the finished training of the same rows, base and settings, it is
    returned as it is; if it holds checkpoints of one that was stopped, it goes on from the last; of another: UserError.
    The same rows, base, settings and seed give the same weights bit for bit on CPU with the same number of threads,
    interrupted or not.
    facts: added to training.json (e.g. the round). progress: a progress bar on standard error.

    UserError as well for rows of another kind, none at all, or a base that is no model.
    """
    from rstar_eval.solver.backends.hf import check_folder, weights_hash
    from rstar_eval.training.models import check_extras

    _check_rows(kind, rows)
    check_folder(base)
    check_extras(kind, config)
    from accelerate import PartialState

    found = identity(kind, rows_digest(rows), weights_hash(base), config)
    with _one_after_the_other(PartialState):
        done = claim(output, found)
    if done is not None:
        return Trained(output, done)
    start = time.monotonic()
    figures = _run(kind, rows, base, output, config, progress)
    manifest = {**found, "base": base.name, **(facts or {}), **figures}
    manifest["timing"] = {"seconds": round(time.monotonic() - start, 1)}
    if PartialState().is_main_process:
        finish(output, manifest)
    PartialState().wait_for_everyone()
    return Trained(output, manifest)


def _run(
    kind: TrainKind, rows: Sequence[Row], base: Path, output: Path, config: TrainConfig, progress: bool
) -> dict[str, Any]:
    """Train, measure and save; returns what training.json says of it."""
    import torch
    import transformers

    from rstar_eval.training.encode import Encoded, encode
    from rstar_eval.training.heldout import measure, split
    from rstar_eval.training.models import load_model, load_tokenizer, save_model, unwrapped
    from rstar_eval.training.trainer import make_trainer

    transformers.set_seed(config.seed)
    tokenizer = load_tokenizer(base)
    model = load_model(kind, base, tokenizer, config)
    kept, held = split(rows, config.held_out, config.seed)
    if not kept:
        raise UserError(f"held_out {config.held_out} leaves no rows to train on", "make it smaller")
    if len(held) > _HELD:  # more would take longer than the training
        held = Random(derive_seed(config.seed, "measured")).sample(held, _HELD)
    take = {"learn_outputs": config.learn_outputs, "judge_outputs": config.head != "token_logratio"}
    learned = encode(kept, tokenizer, config.max_length, **take)
    judged = encode(held, tokenizer, config.max_length, **take) if held else Encoded([], 0)
    pad = int(tokenizer.pad_token_id)
    trainer = make_trainer(kind, model, learned.examples, pad, output, config, progress)
    resume = last_complete(output)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finished, state = unwrapped(trainer, config)
    figures = {"train": measure(kind, finished, learned.examples[:_MEASURED], kept, pad, config)}
    if judged.examples:
        figures["held_out"] = measure(kind, finished, judged.examples, held, pad, config)
    if trainer.args.process_index == 0:
        save_model(finished, state, tokenizer, output, config.save_dtype)
        if kind != "sft":
            write_card(
                output, RewardCard(kind, config.head, beta=config.beta if config.head == "token_logratio" else 1.0)
            )
    return {
        "rows": {"trained": len(learned.examples), "held_out": len(judged.examples)},
        "too_long": learned.too_long + judged.too_long,
        "steps": int(trainer.state.global_step),
        "tokens": trainer.train_dataset.tokens,
        "metrics": figures,
        "logs": LOGS if config.log_steps else None,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _one_after_the_other(state: Any) -> Iterator[None]:
    """Let the first process of a training go first: it writes what the others find."""
    import torch

    with state(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def _check_rows(kind: TrainKind, rows: Sequence[Row]) -> None:
    if kind not in ROWS_OF:
        raise UserError(f"unknown kind of training {kind!r}", nearest(kind, ROWS_OF))
    wanted = ROW_KINDS[ROWS_OF[kind]]
    if not rows:
        raise UserError(f"there are no rows to train {kind} on", "make a data set with at least one")
    other = next((row for row in rows if not isinstance(row, wanted)), None)
    if other is not None:
        raise UserError(f"{kind} is trained on {wanted.__name__}, got {type(other).__name__}", "give the other data")
