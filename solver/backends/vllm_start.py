"""Starting a vLLM engine: its arguments, its surroundings, and one clear line when it does not start.

An engine is vLLM's AsyncLLM: a front end in our process and an engine core in a process of its own, with one worker
process for each tensor-parallel rank.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder
from rstar_eval.solver.backends.vllm_child import VARIABLE

CPU_KV_GIB = 1.0
"""KV cache on a CPU unless `kv_gib` says otherwise; vLLM's own default there is most of the machine's memory."""
CPU_BLOCK = 32
"""Tokens of a KV block on a CPU. Only whole blocks are found again in the prefix cache, and most steps are shorter than
vLLM's default there, 128 tokens."""

_starting = threading.Lock()
"""Environment variables are the process's: engines start one after the other."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs.

    path: a saved model. pooling: a reward model that outputs at the last token, not a language model. devices: numbers
    of CUDA devices (empty: the first ones that it needs). memory: share of each GPU's memory, weights and KV cache
    together (None: vLLM's 0.9). kv_gib: KV cache in GiB instead of what the share leaves. parallel: sequences computed
    at once (None: vLLM's). lora: folder of an adapter. threads: CPU threads of the model (None: vLLM's choice).
    overrides: values put over those of the model's config.json.
    """

    path: Path
    pooling: bool = False
    dtype: str = "auto"
    context: int | None = None
    parallel: int | None = None
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


def parse_devices(text: str) -> tuple[int, ...]:
    """Read the option `device`: auto, cpu, cuda, cuda:N, or cuda:N,M for tensor parallelism. UserError for all else and
    for what this machine or this build of vLLM lacks."""
    from vllm.platforms import current_platform

    built_for = current_platform.device_type
    match = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d+(?:,\d+)*)", text)
    if match is None:
        raise UserError(f"unknown device {text!r}", "use auto, cpu, cuda, cuda:N or cuda:N,M")
    wanted = match[1] or "cuda"
    if wanted != "auto" and wanted != built_for:
        raise UserError(f"device {text!r} is not there: the installed vLLM runs on {built_for}", "use device=auto")
    numbers = tuple(int(one) for one in match[2].split(",")) if match[2] else ()
    if len(set(numbers)) < len(numbers):
        raise UserError(f"device {text!r} names one twice", "name each device once")
    present = int(current_platform.device_count()) if numbers else 0
    if numbers and max(numbers) >= present:
        raise UserError(f"device {text!r} is not there", f"this machine has {present}, numbered from 0")
    return numbers


def check_installed() -> None:
    """Raise UserError, with the mend, unless vLLM can be imported."""
    if not importlib.util.find_spec("vllm"):
        raise UserError(
            "vllm is not installed", "pip install 'rstar-eval[vllm]'; its CPU build: benchmarks/vllm/setup.sh"
        )


def quiet() -> None:
    """Keep vLLM's messages off standard output, and its reports of use from being sent, unless the user's own
    environment says otherwise. Must run before vllm is imported."""
    for name, value in (
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("VLLM_LOGGING_STREAM", "ext://sys.stderr"),
        ("VLLM_NO_USAGE_STATS", "1"),
    ):
        os.environ.setdefault(name, value)


def start(settings: EngineSettings, stat_loggers: Sequence[Any] = ()) -> tuple[Any, Path]:
    """Start an engine and return it (a vllm AsyncLLM) with its log file, which is the caller's to remove.

    Blocks for seconds to minutes: call it in a thread. UserError if the model or the machine does not allow it; the
    line holds vLLM's own reason.
    """
    check_folder(settings.path)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    number, name = tempfile.mkstemp(prefix="rstar-vllm-", suffix=".log")
    os.close(number)
    log = Path(name)
    try:
        with _starting, _surroundings(settings, log), _deaf():
            engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**engine_arguments(settings)), stat_loggers=list(stat_loggers)
            )
    # vLLM raises whatever goes wrong in it and in the files; all of it means that there is no engine.
    except Exception as error:  # noqa: BLE001
        reason = _reason(log, error)
        log.unlink(missing_ok=True)
        raise UserError(f"vLLM does not start with {str(settings.path)!r} ({reason})", _mend(reason)) from None
    except BaseException:
        log.unlink(missing_ok=True)
        raise
    return engine, log


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return vLLM's engine arguments for `settings` on the platform that the installed vLLM was built for."""
    on_cpu = _on_cpu()
    dtype = settings.dtype
    if dtype == "auto" and on_cpu:
        dtype = "float32"  # as the transformers backend: exact comparisons, and no slower on most CPUs
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
        # Sampling settings are ours; of a checkpoint's generation_config only the end tokens count.
        "override_generation_config": {},
        "max_model_len": settings.context,
        "max_num_seqs": settings.parallel,
        "block_size": settings.block or (CPU_BLOCK if on_cpu else None),
    }
    if settings.devices:
        arguments["device_ids"] = list(settings.devices)
    if settings.memory is not None:
        arguments["gpu_memory_utilization"] = settings.memory
    kv_gib = settings.kv_gib or (CPU_KV_GIB if on_cpu else None)
    if kv_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_gib * 2**30)
    if settings.pooling:
        arguments |= {"runner": "pooling", "convert": "classify"}
    if settings.lora is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank(settings.lora)}
    if settings.overrides:
        arguments["hf_overrides"] = dict(settings.overrides)
    return {name: value for name, value in arguments.items() if value is not None}


def lora_rank(folder: Path) -> int:
    """Return the rank that vLLM must make room for, from an adapter's configuration. UserError if it is no adapter."""
    import json

    path = folder / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{str(folder)!r} is no LoRA adapter", "give a folder with adapter_config.json") from None
    allowed = (8, 16, 32, 64, 128, 256, 320, 512)
    fitting = [one for one in allowed if one >= rank]
    if not fitting:
        raise UserError(f"the adapter {str(folder)!r} has rank {rank}", f"vLLM takes at most {allowed[-1]}")
    return fitting[0]


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


@contextlib.contextmanager
def _surroundings(settings: EngineSettings, log: Path) -> Iterator[None]:
    """Set what the engine's processes inherit, for the time of the start."""
    wanted = {VARIABLE: f"{os.getpid()}:{log}", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if _on_cpu():
        # Threads that are bound to cores, or that spin, fight with the sandbox's workers and the other engine.
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_WAIT_POLICY": "passive"}
        wanted["OMP_NUM_THREADS"] = str(settings.threads or max(1, len(os.sched_getaffinity(0)) - 1))
    fixed = {VARIABLE, "VLLM_WORKER_MULTIPROC_METHOD"} | ({"OMP_NUM_THREADS"} if settings.threads else set())
    before = {name: os.environ.get(name) for name in wanted}
    for name, value in wanted.items():
        if name in fixed or before[name] is None:  # what the user has set is kept
            os.environ[name] = value
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let what this thread starts not hear Ctrl-C, which the terminal sends to every process of the group: the engine
    must outlive it until the running searches have been stopped in order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(log: Path, error: Exception) -> str:
    """Return one line on why an engine did not start: the last exception of its processes, else of ours."""
    found = re.findall(r"(?m)^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?(\w*(?:Error|Exception): .+)$", _read(log))
    telling = [line for line in found if not any(words in line for words in _EMPTY_WORDS)]
    text = telling[-1] if telling else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


_EMPTY_WORDS = ("Engine core initialization failed", "WorkerProc initialization failed")


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _mend(reason: str) -> str:
    low = reason.lower()
    if "memory" in low or "kv cache" in low:
        return "give the engine more memory (memory=SHARE or kv_gib=N), or a smaller ctx="
    return "check the model's files and the options"
