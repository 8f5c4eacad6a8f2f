"""The engine of a transformers causal language model in a local folder."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_eval.embedded import model_path
from rstar_eval.errors import UserError
from rstar_eval.solver.backends.engine import Sampling, no_room
from rstar_eval.solver.backends.hf_cache import register_attention
from rstar_eval.solver.backends.hf_decoder import Decoder
from rstar_eval.solver.backends.hf_text import pieces_of
from rstar_eval.solver.backends.prompt_tokens import encode
from rstar_eval.solver.backends.spec import PolicySpec
from rstar_eval.solver.types import Prompt, SampleResult

logger = logging.getLogger(__name__)
DEFAULT_PARALLEL = 32
SMALL, SMALL_PARALLEL = 50_000_000, 128
"""A model of fewer parameters computes more sequences at once by default: a step's cost is then mostly its own, not the
sequences'."""

_OWN_CODE = (
    "the checkpoint brings Python code of its own; if you trust whoever made it, the option ?trust_remote_code=true "
    "runs it in this process, outside of the sandbox"
)


class HFEngine:
    """Continues text with a transformers model. `context` is the most tokens of a prompt with its completion."""

    def __init__(
        self, model: Any, tokenizer: Any, *, parallel: int, context: int, identity: Mapping[str, object]
    ) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._identity = {**identity, "parallel": parallel, "context": context}
        # Special tokens stay in the text: they may be marks of the step grammar. End-of-sequence tokens never get in.
        self._decoder = Decoder(
            model,
            lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)),
            eos_tokens(model, tokenizer),
            parallel,
            pieces_of(tokenizer),
        )
        self.concurrency = min(parallel, DEFAULT_PARALLEL)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """Return the continuations (engine.Engine.generate). Cancelling the call frees the model's rows at once."""
        tokens = self.encode(prompt)
        room = self._context - len(tokens)
        if room < 1:
            return no_room(sampling.n, len(tokens), self._context)
        if sampling.n < 1:
            return SampleResult((), len(tokens))
        future = self._decoder.submit(tokens, sampling, min(sampling.max_tokens, room))
        return SampleResult(await asyncio.wrap_future(future), len(tokens))

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt: its raw text, or its messages in the model's chat template with the
        assistant's prefix behind them."""
        return encode(self._tokenizer, prompt)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Compute the tokens that all `prompts` share once."""
        encoded = [self.encode(prompt) for prompt in prompts]
        shared = 0
        while all(shared < len(tokens) - 1 and tokens[shared] == encoded[0][shared] for tokens in encoded):
            shared += 1
        if shared:
            await asyncio.to_thread(self._decoder.share, encoded[0][:shared])

    async def reset_cache(self) -> None:
        """Forget the prompts computed so far, but for what `warm` prepared (for measurements)."""
        self._decoder.forget()

    def describe(self) -> Mapping[str, object]:
        """Return the model's path, its weights' hash, versions and settings."""
        return self._identity

    async def close(self) -> None:
        """End the generating thread. May be called twice."""
        await asyncio.to_thread(self._decoder.close)


def eos_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a sequence, by the model's generation settings and by the tokenizer."""
    given = model.generation_config.eos_token_id
    listed = given if isinstance(given, list) else [given]
    return frozenset(int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None)


def load(spec: PolicySpec) -> tuple[HFEngine, bool]:
    """Load the model in the folder `spec.target`. Return its engine, and whether it has a chat template.

    UserError if transformers is missing, the folder is none, holds no causal language model that can be loaded, or
    one whose layers are not all full attention, or if the device is not there.
    """
    path = model_path(spec.target)
    check_folder(path)
    if not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")):
        raise UserError("transformers and torch are not installed", "pip install 'rstar-eval[hf]'")
    import torch
    import transformers

    device = choose_device(spec.string("device", "auto"))
    dtype = spec.string("dtype", "auto")
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    if "threads" in spec.options:
        torch.set_num_threads(spec.integer("threads", 1))
    trusted = spec.string("trust_remote_code", "false") == "true"
    if trusted:
        logger.warning("trust_remote_code: Python files in %s run in this process, outside of the sandbox", path)
    warn_of_pickles(path)
    try:
        tokenizer = load_tokenizer(path, trusted=trusted)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=trusted,
            weights_only=True,
        )
        if model._supports_attention_backend:
            model.set_attn_implementation(register_attention())
        model = model.to(device).eval()
    except UserError:
        raise
    # The loaders raise whatever the files make them raise; all of it means that this is no loadable model.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:200]
        fix = _OWN_CODE if "custom code" in str(error) and not trusted else ""
        raise UserError(f"{str(path)!r} does not load as a causal language model ({reason})", fix) from None
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UserError(
            f"{str(path)!r} has layers that this backend cannot batch ({', '.join(sorted(kinds))})",
            "serve it with vLLM and use openai:MODEL@URL",
        )
    longest = int(getattr(model.config, "max_position_embeddings", 4096))
    identity = {
        "engine": "transformers",
        "version": transformers.__version__,
        "torch": torch.__version__,
        "model": path.name,
        "sha256": weights_hash(path),
        "device": device,
        "dtype": dtype,
    }
    small = model.num_parameters() < SMALL
    parallel = spec.integer("parallel", SMALL_PARALLEL if small else DEFAULT_PARALLEL)
    context = min(spec.integer("ctx", longest), longest)
    engine = HFEngine(model, tokenizer, parallel=parallel, context=context, identity=identity)
    return engine, bool(tokenizer.chat_template)


def load_tokenizer(path: Path, *, trusted: bool = False) -> Any:
    """Return the tokenizer in folder `path`, running code that lies there only if `trusted`. UserError if there is
    none, or it does not load."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trusted)
    except Exception as error:  # noqa: BLE001  the loaders raise whatever the files make them raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{str(path)!r} holds no tokenizer that loads ({reason})", "copy the tokenizer there") from None
    if not tokenizer("0")["input_ids"]:  # without files transformers makes one that knows no token
        raise UserError(f"{str(path)!r} holds no tokenizer", "copy the tokenizer's files there")
    return tokenizer


def check_folder(path: Path) -> None:
    """Raise UserError unless `path` is a folder with a model's config.json and weights."""
    if not path.exists():
        raise UserError(f"no model at {str(path)!r}", "give the folder of a saved transformers model")
    if path.is_file():
        raise UserError(f"{str(path)!r} is a file, not a model folder", "give its folder, or gguf:PATH for a GGUF file")
    if not (path / "config.json").is_file():
        raise UserError(f"{str(path)!r} is no transformers model: it has no config.json", "give a saved model's folder")
    if not weight_files(path):
        raise UserError(f"{str(path)!r} holds no weights", "it needs *.safetensors (or pytorch_model*.bin) files")


def weight_files(path: Path) -> list[Path]:
    """Return the weight files of a model folder, by name."""
    return sorted([*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin")])


def warn_of_pickles(path: Path) -> None:
    """Say so if a checkpoint's weights are pickles. Nothing but tensors is made of them (`weights_only`)."""
    files = weight_files(path)
    if files and all(file.suffix == ".bin" for file in files):
        logger.warning("the weights in %s are pickles, read as plain tensors alone; prefer safetensors", path)


def weights_hash(path: Path) -> str:
    """Return the SHA-256 over a model's weight files, in the order of their names."""
    digest = hashlib.sha256()
    for file in weight_files(path):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def choose_device(wanted: str) -> str:
    """Return the torch device for `wanted` (auto: a GPU if there is one). UserError if it is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError:
        raise UserError(f"unknown device {wanted!r}", "use cpu, cuda or cuda:N") from None
    if kind not in ("cpu", "cuda"):
        raise UserError(f"unsupported device {wanted!r}", "use cpu, cuda or cuda:N")
    if kind == "cuda" and (
        not torch.cuda.is_available() or (torch.device(wanted).index or 0) >= torch.cuda.device_count()
    ):
        raise UserError(f"device {wanted!r} is not there", "use device=cpu")
    return wanted
