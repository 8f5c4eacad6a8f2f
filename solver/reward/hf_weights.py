"""Loading a reward checkpoint's network through transformers: the backbone without a head, and the head by its tensors.

Heads of public models are rebuilt from their weights: no code of a checkpoint is executed, and nothing is unpickled but
plain tensors (`weights_only=True`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder, warn_of_pickles, weight_files
from rstar_eval.solver.backends.hf_cache import register_attention
from rstar_eval.solver.reward import bilinear
from rstar_eval.solver.reward.engines import Head

VALUE_HEAD = "value_head.bin"
"""The authors' head, beside a causal language model."""

Reader = Callable[[Any, Any], Any]
"""Maps states (places x hidden) and the tokens that are judged there (places) to outputs (places x outputs, float32). A
state is that of the token before where the head judges tokens (BEFORE), else of the token itself."""
BEFORE = ("bilinear", "logprob")
"""Kinds of heads that judge a token by the state before it."""


def load_backbone(path: Path, dtype: str, device: str) -> Any:
    """Return the transformer in folder `path` without its head. UserError if it does not load whole, or its layers are
    not all full attention."""
    import torch
    import transformers

    check_folder(path)
    warn_of_pickles(path)
    transformers.utils.logging.disable_progress_bar()
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # that the head is left over is no news
    try:
        model, loaded = transformers.AutoModel.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001  the loaders raise whatever the files make them raise
        raise UserError(f"{str(path)!r} does not load as a model ({_line(error)})") from None
    finally:
        transformers.utils.logging.set_verbosity(level)
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise UserError(f"{str(path)!r} lacks weights of the model ({', '.join(missing[:3])})", "copy it again")
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        raise UserError(f"{str(path)!r} has layers that can't be batched ({', '.join(sorted(kinds))})")
    if model._supports_attention_backend:
        model.set_attn_implementation(register_attention())
    return model.to(device).eval()


def load_reader(path: Path, head: Head, backbone: Any) -> Reader:
    """Return the head in folder `path`, on the backbone's device, in float32.

    UserError if the checkpoint has no such head, or one of another shape than `head` says.
    """
    import torch

    device, hidden = backbone.device, backbone.config.get_text_config().hidden_size
    if head.kind == "bilinear":
        matrix, embed = bilinear.load_head(path, hidden).to(device), backbone.get_input_embeddings()
        return lambda before, tokens: bilinear.token_rewards(matrix, before, embed(tokens))[..., None]
    if head.kind == "logprob":
        return _logprobs(path, backbone)
    if head.kind == "tokens":
        found = read_tensors(path, ["lm_head.weight"]).get("lm_head.weight")
        table = found if found is not None else backbone.get_input_embeddings().weight
        layers = [(table[list(head.tokens)], None)]
    else:
        layers = _classifier(path)
    matrices = [
        (weight.to(device, torch.float32), None if bias is None else bias.to(device, torch.float32))
        for weight, bias in layers
    ]
    shapes = [tuple(weight.shape) for weight, _ in matrices]
    if shapes[0][1] != hidden or shapes[-1][0] != head.outputs:
        raise UserError(
            f"the head of {str(path)!r} maps {shapes[0][1]} to {shapes[-1][0]} numbers, not {hidden} to {head.outputs}",
            "is this the right kind of reward model?",
        )

    def read(states: Any, tokens: Any) -> Any:
        states = states.float()
        for i, (weight, bias) in enumerate(matrices):
            states = torch.nn.functional.linear(torch.relu(states) if i else states, weight, bias)
        return states

    return read


def check_plain_logits(config: Any, path: Path) -> None:
    """UserError unless a language model's logits are its last hidden state times a matrix, plus a bias at most: scales
    and caps, which some architectures apply in code, would be lost where the head is read by its tensors."""
    text = config.get_text_config()
    found = [name for name in _NOT_PLAIN if getattr(text, name, None) not in (None, 1, 1.0)]
    if found:
        raise UserError(f"{str(path)!r} scales or caps its logits ({', '.join(found)})", "use a head of another form")


_NOT_PLAIN = (
    "final_logit_softcapping",
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier_scale",
)
_LOGITS_AT_ONCE = 1 << 24
"""Most logits that are computed at once: numbers, of 4 bytes."""


def _logprobs(path: Path, backbone: Any) -> Reader:
    """Return what reads the log probability of each token (places x 1), by the language-model head in folder `path`."""
    import torch

    config = backbone.config.get_text_config()
    check_plain_logits(config, path)
    tensors = read_tensors(path, ["lm_head.weight", "lm_head.bias"])
    table, bias = tensors.get("lm_head.weight"), tensors.get("lm_head.bias")
    if table is None and config.tie_word_embeddings:
        table = backbone.get_input_embeddings().weight
    if table is None or table.shape[1] != config.hidden_size:
        raise UserError(f"{str(path)!r} has no language-model head (no tensor lm_head.weight)", "is it a policy?")
    table = table.to(backbone.device, torch.float32)
    bias = None if bias is None else bias.to(backbone.device, torch.float32)
    rows = max(1, _LOGITS_AT_ONCE // len(table))

    def read(states: Any, tokens: Any) -> Any:
        found = []
        for part, wanted in zip(states.float().split(rows), tokens.split(rows), strict=True):
            logits = torch.nn.functional.linear(part, table, bias)
            found.append(logits.gather(-1, wanted[:, None]) - logits.logsumexp(-1, keepdim=True))
        return torch.cat(found)

    return read


def _classifier(path: Path) -> list[tuple[Any, Any]]:
    """Return the linear layers (weight, bias or None) of a classification head, between which stands a ReLU: `score`
    (sequence classification), `score.0` and `score.2` (Qwen2.5-Math-PRM), `v_head.summary` (Skywork), or the authors'
    value_head.bin."""
    names = [f"{layer}.{part}" for layer in ("score", "score.0", "score.2", "v_head.summary") for part in _PARTS]
    tensors = read_tensors(path, names)
    if "score.weight" in tensors:
        return [_layer(tensors, "score")]
    if "score.0.weight" in tensors and "score.2.weight" in tensors:
        return [_layer(tensors, "score.0"), _layer(tensors, "score.2")]
    if "v_head.summary.weight" in tensors:
        return [_layer(tensors, "v_head.summary")]
    if (path / VALUE_HEAD).is_file():
        return [value_head(path)]
    raise UserError(
        f"{str(path)!r} has no classification head (no tensor score.weight)", "is it a policy? Give a reward model"
    )


_PARTS = ("weight", "bias")


def _layer(tensors: dict[str, Any], name: str) -> tuple[Any, Any]:
    return tensors[f"{name}.weight"], tensors.get(f"{name}.bias")


def value_head(path: Path) -> tuple[Any, Any]:
    """Return weight (1 x hidden) and bias (1) of the authors' value_head.bin in folder `path`. UserError if it holds
    something else."""
    file = path / VALUE_HEAD
    if not file.is_file():
        raise UserError(f"{str(path)!r} has no {VALUE_HEAD}", "official: takes the authors' format; ours is ppm:PATH")
    tensors = {name.removeprefix("v_head."): tensor for name, tensor in _unpickled(file).items()}
    weight, bias = tensors.get("summary.weight"), tensors.get("summary.bias")
    if weight is None or weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise UserError(f"{str(file)!r} is no value head (it holds {', '.join(sorted(tensors)[:4]) or 'nothing'})")
    return weight, bias


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return those tensors of `names` that the checkpoint in folder `path` holds. UserError for an unreadable file."""
    from safetensors import safe_open

    wanted = set(names)
    found: dict[str, Any] = {}
    files = weight_files(path)
    if any(file.suffix == ".safetensors" for file in files):
        files = [file for file in files if file.suffix == ".safetensors"]
    for file in _holding(path, wanted, files):
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as tensors:
                    found |= {name: tensors.get_tensor(name) for name in wanted.intersection(tensors.keys())}
            except Exception as error:  # noqa: BLE001  the reader raises whatever the file makes it raise
                raise UserError(f"{str(file)!r} can't be read ({_line(error)})", "copy it again") from None
        else:
            found |= {name: tensor for name, tensor in _unpickled(file).items() if name in wanted}
    return found


def _holding(path: Path, wanted: set[str], files: list[Path]) -> list[Path]:
    """Return the files that hold `wanted`: by the checkpoint's index if it has one, else all."""
    for index in (path / "model.safetensors.index.json", path / "pytorch_model.bin.index.json"):
        if index.is_file():
            try:
                table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                names = {str(table[name]) for name in wanted.intersection(table)}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{str(index)!r} is no index of weights ({error})", "copy it again") from None
            return [file for file in files if file.name in names]
    return files


def _unpickled(file: Path) -> dict[str, Any]:
    import torch

    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  the reader raises whatever the file makes it raise
        raise UserError(f"{str(file)!r} holds more than tensors, or can't be read ({_line(error)})") from None
    if not isinstance(tensors, dict) or not all(isinstance(one, torch.Tensor) for one in tensors.values()):
        raise UserError(f"{str(file)!r} is no table of tensors")
    return tensors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
