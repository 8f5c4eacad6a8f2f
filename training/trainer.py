"""The training loop: transformers' Trainer with our batches, losses and checkpoints.

Everything that accelerate can do (several devices, FSDP) comes from there: see training/accelerate/. This module
imports torch and transformers at once: import it inside functions only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_model, save_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from rstar_eval.errors import UserError
from rstar_eval.training.batches import Planned, collate, collate_forked, plan
from rstar_eval.training.checkpoint import CHECKPOINTS, COMPLETE, LOGS
from rstar_eval.training.config import TrainConfig, TrainKind
from rstar_eval.training.encode import IGNORED, Example
from rstar_eval.training.losses import loss_sum, token_loss
from rstar_eval.training.models import score_texts
from rstar_eval.training.optimizers import muon_adamw

MASKS = ("sdpa", "eager")
"""Implementations of attention that take any mask."""
_BARE = "model.safetensors"


class StepTrainer(Trainer):  # type: ignore[misc]
    """Takes whole planned batches; its losses are normalised over an optimizer step, on all devices together."""

    optimizer: Any

    def __init__(self, kind: TrainKind, config: TrainConfig, **given: Any) -> None:
        super().__init__(**given)
        self._kind, self._config = kind, config
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return what the summed losses of an optimizer step are divided by."""
        if self._kind == "sft":
            total = sum((batch["labels"][:, 1:] != IGNORED).sum() for batch in batch_samples)
        elif self._config.reduction == "mean" or self._kind != "ppm":
            total = sum(batch["weights"].sum() for batch in batch_samples)
        else:
            total = torch.tensor(len(batch_samples))
        total = torch.as_tensor(total, dtype=torch.float32, device=device)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return total

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this batch's share of the optimizer step's loss (times the number of devices: theirs are averaged)."""
        if self._kind == "sft":
            loss = token_loss(model, inputs)
        else:
            loss = loss_sum(self._kind, self._config.head, score_texts(model, inputs, self._config), inputs)
        loss = loss / num_items_in_batch * self.args.world_size
        return (loss, None) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the optimizer, made at the first call. UserError for Muon on sharded parameters."""
        if self._config.optimizer == "muon" and self.optimizer is None:
            if self.is_fsdp_enabled:
                raise UserError("Muon updates whole matrices, FSDP shards them", "set optimizer to adamw")
            config = self._config
            self.optimizer = muon_adamw(
                model or self.model, lr=config.learning_rate, weight_decay=config.weight_decay, beta2=config.adam_beta2
            )
        return super().create_optimizer(model)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the weights of a checkpoint. Tied weights of a model that is none of transformers' are written once."""
        if not self._bare:
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(folder / _BARE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._bare:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_model(self.accelerator.unwrap_model(model or self.model), str(Path(resume_from_checkpoint) / _BARE))

    @property
    def _bare(self) -> bool:
        return hasattr(self.model, "lm") and not self.is_fsdp_enabled

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: an estimate that nobody reads, at a cost in every step."""
        return 0


class _Marker(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as complete once all of it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class _Bar(transformers.trainer_callback.ProgressCallback):  # type: ignore[misc]
    """A progress bar that shows the last logged loss in itself, and prints nothing else."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.4f}")


def make_trainer(
    kind: TrainKind,
    model: Any,
    examples: Sequence[Example],
    pad: int,
    output: Path,
    config: TrainConfig,
    progress: bool,
) -> StepTrainer:
    """Return a trainer that has planned its batches. UserError if an optimizer step can't be shared by the devices."""
    transformers.utils.logging.set_verbosity_error()
    accumulate = accumulated(config)
    args = TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bf16",
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        seed=config.seed,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=2,
        logging_strategy="steps" if config.log_steps else "no",
        logging_steps=config.log_steps or 500,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=not progress,
        # Without a language-model head's loss its weights get no gradient, unless they are the embeddings too.
        ddp_find_unused_parameters=hasattr(model, "bilinear"),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )
    batches = planned(examples, config, accumulate * args.world_size)
    share = kind == "ppm" and config.head == "token_logratio" and config.attention in MASKS
    form = collate_forked if share else collate
    trainer = StepTrainer(
        kind,
        config,
        model=model,
        args=args,
        data_collator=lambda items: form(items[0], pad),
        train_dataset=Planned(examples, batches),
        callbacks=[_Marker()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if trainer.pop_callback(transformers.trainer_callback.ProgressCallback) is not None:
        trainer.add_callback(_Bar())
    if config.log_steps and args.process_index == 0:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        trainer.add_callback(TensorBoardCallback(SummaryWriter(str(output / LOGS))))
    return trainer


def accumulated(config: TrainConfig) -> int:
    """Return how many batches of one device make an optimizer step. UserError if step_rows is no multiple of what all
    devices take at once."""
    if config.step_rows is None:
        return config.accumulate
    devices = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = config.batch_rows * devices
    if config.step_rows % at_once:
        raise UserError(
            f"step_rows {config.step_rows} is no multiple of {at_once} (batch_rows {config.batch_rows} on {devices} "
            "devices)",
            "change batch_rows or step_rows",
        )
    return config.step_rows // at_once


def planned(examples: Sequence[Example], config: TrainConfig, batches_a_step: int) -> list[list[int]]:
    """Return all batches of the training in order; with `max_steps` exactly as many as these steps take."""
    epochs = config.epochs
    if config.max_steps > 0:
        needed = config.max_steps * batches_a_step
        first = plan(examples, 1, batch_tokens=config.batch_tokens, batch_rows=config.batch_rows, seed=config.seed)
        epochs = -(-needed // len(first)) + 1
    batches = plan(examples, epochs, batch_tokens=config.batch_tokens, batch_rows=config.batch_rows, seed=config.seed)
    return batches if config.max_steps < 1 else batches[:needed]
