"""The authors' reward checkpoint (a causal language model with value_head.bin) in our form: sequence classification."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder, load_tokenizer
from rstar_eval.solver.reward.card import RewardCard, write_card
from rstar_eval.solver.reward.hf_weights import value_head


def convert_ppm(source: Path, target: Path) -> Path:
    """Write the checkpoint in folder `source` as a sequence-classification checkpoint (num_labels 1, safetensors,
    tokenizer, card) into the new or empty folder `target`; return `target`.

    The weights keep their precision, but for the head, which stays float32 where the authors' is. Its bias becomes the
    tensor `score.bias`, which our engine and vLLM add and transformers' own class leaves out (it shifts all scores
    alike). UserError if `source` is no such checkpoint, its architecture has no sequence-classification class, or
    `target` is not empty.
    """
    if not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")):
        raise UserError("transformers and torch are not installed", "pip install 'rstar-eval[hf]'")
    import torch
    import transformers

    check_folder(source)
    weight, bias = value_head(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{str(target)!r} is not an empty folder", "give a new one")
    tokenizer = load_tokenizer(source)
    transformers.utils.logging.set_verbosity_error()  # the head that it misses is the one that we put in
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=1, dtype="auto", local_files_only=True, trust_remote_code=False, weights_only=True
        )
    except Exception as error:  # noqa: BLE001  the loaders raise whatever the files make them raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{str(source)!r} does not load for sequence classification ({reason})") from None
    head = getattr(model, "score", None)
    if head is None or tuple(head.weight.shape) != tuple(weight.shape):
        raise UserError(
            f"the head in {str(source)!r} is {tuple(weight.shape)}, which does not fit the model "
            f"({tuple(head.weight.shape) if head is not None else 'no score layer'})",
            "is value_head.bin that of another model?",
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    with torch.no_grad():
        head.weight = torch.nn.Parameter(weight.clone())
    state = model.state_dict()
    if bias is not None:
        state["score.bias"] = bias.clone()
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target, state_dict=state)
    tokenizer.save_pretrained(target)
    write_card(target, RewardCard("ppm"))
    return target
