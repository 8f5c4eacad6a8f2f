"""What is trained: a policy, or a reward model on a policy's weights; and how it is saved."""

from __future__ import annotations

import importlib.util
import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder
from rstar_eval.solver.formats.rstar import ANSWER, CODE, END_ANSWER, END_CODE, END_OUTPUT, END_STEP, OUTPUT
from rstar_eval.solver.reward.bilinear import bilinear_model, save_head, score_of
from rstar_eval.solver.reward.hf_weights import check_plain_logits
from rstar_eval.solver.reward.logratio import REFERENCE, logratio_model
from rstar_eval.training.config import TrainConfig, TrainKind

MARKS = (CODE, END_STEP, END_CODE, OUTPUT, END_OUTPUT, ANSWER, END_ANSWER, "<|user|>", "<|assistant|>")
"""Marks that the authors' script makes tokens of (theirs also has two for a refinement that the paper does not use)."""


def check_extras(kind: TrainKind, config: TrainConfig) -> None:
    """UserError if a package that the training needs is not installed (with the extra that brings it), and for adapters
    where they can't be had: under FSDP, and with a head that sums over tokens."""
    needed = ["torch", "transformers", "accelerate"]
    needed += ["peft"] * (config.lora_rank > 0) + ["tensorboard"] * (config.log_steps > 0)
    if config.lora_rank and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise UserError("lora_rank does not go together with FSDP", "train all weights, or use plain data parallelism")
    if config.lora_rank and config.head != "last_token" and kind != "sft":
        raise UserError(f"lora_rank does not go together with head {config.head}", "set lora_rank=0 or head=last_token")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed", "pip install 'rstar-eval[train]'")


def load_tokenizer(base: Path) -> Any:
    """Return the tokenizer of `base`. UserError if there is none, or it can't tell where its tokens are in a text."""
    import transformers

    check_folder(base)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  the loaders raise whatever the files make them raise
        raise UserError(f"{str(base)!r} holds no tokenizer that loads ({_line(error)})") from None
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer in {str(base)!r} gives no places of its tokens", "save it as tokenizer.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def load_model(kind: TrainKind, base: Path, tokenizer: Any, config: TrainConfig) -> Any:
    """Return the model to train, in fp32: a causal language model, one with a fresh scalar head, or two (a log ratio).

    With `add_marks` marks that are no tokens yet are added to `tokenizer` and get the mean of all embeddings.
    UserError if the checkpoint does not load.
    """
    import torch
    import transformers

    extra: dict[str, Any] = {}
    loader: Any = transformers.AutoModelForCausalLM
    if kind != "sft" and config.head == "last_token":
        loader, extra = transformers.AutoModelForSequenceClassification, {"num_labels": 1}
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = loader.from_pretrained(
            base,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            attn_implementation=config.attention,
            **extra,
        )
    except Exception as error:  # noqa: BLE001  the loaders raise whatever the files make them raise
        raise UserError(f"{str(base)!r} does not load as a language model ({_line(error)})") from None
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id
    if config.add_marks:
        _add_marks(model, tokenizer)
    if kind != "sft" and config.head == "token_logratio":
        check_plain_logits(model.config, base)
    if kind != "sft" and config.head == "last_token":
        with torch.no_grad():  # the authors start it within 1e-6 of zero
            model.score.weight.zero_()
    elif kind != "sft":
        model = bilinear_model(model) if config.head == "token_bilinear" else logratio_model(model, deepcopy(model))
        model.gradient_checkpointing_enable = model.lm.gradient_checkpointing_enable
    return with_lora(model, kind, config) if config.lora_rank else model


def score_texts(model: Any, batch: dict[str, Any], config: TrainConfig) -> Any:
    """Return a reward model's raw score of each text of a batch (see `batches.collate`): the head's output at the last
    token, or the sum of the rewards of the judged tokens, halved (bilinear) or times beta (log ratio). Of forked rows
    the score is without the tokens that both texts share."""
    import torch

    if config.head == "last_token":
        return model(input_ids=batch["input_ids"]).logits[:, 0]
    if config.head == "token_bilinear":
        return score_of(model(input_ids=batch["input_ids"]), batch["spans"])
    if "forks" not in batch:
        return config.beta * model(input_ids=batch["input_ids"], spans=batch["spans"]).sum(-1)
    rewards = model(input_ids=batch["input_ids"], spans=batch["spans"], forks=batch["forks"])
    others = torch.arange(rewards.shape[1], device=rewards.device) >= batch["forks"][:, 1:]
    return config.beta * torch.cat([(rewards * ~others).sum(-1), (rewards * others).sum(-1)])


def with_lora(model: Any, kind: TrainKind, config: TrainConfig) -> Any:
    """Return the model with low-rank adapters on all its linear layers; a fresh head is trained whole."""
    import peft

    settings = peft.LoraConfig(
        task_type="CAUSAL_LM" if kind == "sft" else "SEQ_CLS",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        modules_to_save=None if kind == "sft" else ["score"],
    )
    return peft.get_peft_model(model, settings)


def _add_marks(model: Any, tokenizer: Any) -> None:
    import torch
    from tokenizers import AddedToken

    known = set(tokenizer.get_vocab())
    fresh = [mark for mark in MARKS if mark not in known]
    if not fresh:
        return
    # Not "special": a special token would vanish from decoded text, and with it the step grammar.
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in fresh])
    size = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    places = [tokenizer.convert_tokens_to_ids(mark) for mark in fresh]
    kept = torch.ones(model.get_input_embeddings().weight.shape[0], dtype=torch.bool)
    kept[places] = False
    kept[len(tokenizer) :] = False
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            if layer is not None:
                layer.weight[places] = layer.weight[kept].mean(dim=0)


def unwrapped(trainer: Any, config: TrainConfig) -> tuple[Any, dict[str, Any]]:
    """Return the trained model without what accelerate and peft put around it, and its full state (gathered from all
    devices). UserError for adapters that lie in pieces on several devices."""
    if not config.lora_rank:
        state = trainer.accelerator.get_state_dict(trainer.model)
        return trainer.accelerator.unwrap_model(trainer.model), state
    model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    return model, model.state_dict()


def save_model(model: Any, state: dict[str, Any], tokenizer: Any, folder: Path, dtype: str) -> None:
    """Save a plain checkpoint: safetensors of `dtype`, config, tokenizer. `state`: the model's full state."""
    if hasattr(model, "bilinear"):
        save_head(state["bilinear"], folder)
    if hasattr(model, "reference"):
        _save_weights(model.reference, _part(state, "reference."), folder / REFERENCE, dtype)
    if hasattr(model, "lm"):
        model, state = model.lm, _part(state, "lm.")
    _save_weights(model, state, folder, dtype)
    tokenizer.save_pretrained(folder)


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _save_weights(model: Any, state: dict[str, Any], folder: Path, dtype: str) -> None:
    import torch

    wanted = getattr(torch, dtype)
    cast: dict[int, Any] = {}
    for value in state.values():  # tied weights must stay one tensor, or they would be saved twice
        if value.data_ptr() not in cast:
            cast[value.data_ptr()] = value.to(wanted)
    named = {key: cast[value.data_ptr()] for key, value in state.items()}
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict=named)
    path = folder / "config.json"  # transformers states the type that the model has here, not the one it was saved in
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
