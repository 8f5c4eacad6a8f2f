"""`rstar-eval doctor`: what this machine offers, one line a thing, with the mend for what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rstar_eval.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_BACKENDS = (
    ("openai", "policies openai:MODEL@URL", ""),
    ("xllamacpp", "policies smollm2 and gguf:PATH", "llamacpp"),
    ("transformers", "policies hf:PATH", "hf"),
    ("torch", "policies hf:PATH", "hf"),
    ("vllm", "serving large models", "vllm"),
    ("ray", "many machines", "ray"),
    ("lm_eval", "lm-eval tasks", "lm-eval"),
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination: `ok` is None for what is neither good nor bad."""

    topic: str
    ok: bool | None
    what: str
    fix: str = ""


def examine(console: Console, data_dir: Path | None = None) -> None:
    """Print every finding of `findings`."""
    marks = {True: ("ok", "green"), False: ("missing", "yellow"), None: ("-", "dim")}
    for one in findings(data_dir):
        word, style = marks[one.ok]
        fix = f"  -> {one.fix}" if one.fix else ""
        console.print(f"{one.topic:<10} ", end="", markup=False, highlight=False)
        console.print(f"{word:<8}", end="", style=style, markup=False, highlight=False)
        console.print(f"{one.what}{fix}", markup=False, highlight=False, soft_wrap=True)


def findings(data_dir: Path | None = None) -> Iterator[Finding]:
    """Yield what this machine offers: system, sandbox, backends, GPU, data, browsers. Reaches no network."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "system", None, f"{platform.platform()}, Python {platform.python_version()}, {cpus} CPUs, {_memory()}"
    )
    yield from _sandbox()
    for module, purpose, extra in _BACKENDS:
        yield _package(module, purpose, extra)
    yield _gpu()
    yield from _data(data_dir)
    yield _browser()


def _sandbox() -> Iterator[Finding]:
    from rstar_eval.sandbox_cli import probe_level

    report = probe_level()
    yield Finding("sandbox", report.level != "accidents-only", f"isolation level {report.level}: {report.promise}")
    for layer in report.layers:
        detail = f"layer {layer.name}: {layer.detail}" if layer.detail else f"layer {layer.name}"
        yield Finding("sandbox", layer.took, detail, "" if layer.took else layer.mend)


def _package(module: str, purpose: str, extra: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding("backend", False, f"{module} for {purpose}", f"pip install 'rstar-eval[{extra}]'")
    try:
        version = metadata.version(module.replace("_", "-"))
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    return Finding("backend", True, f"{module} {version} for {purpose}")


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        found = shutil.which("nvidia-smi") is not None
        if found:
            return Finding("gpu", False, "an NVIDIA driver, but no torch to use it", "pip install 'rstar-eval[hf]'")
        return Finding("gpu", None, "none found; everything runs on the CPU")
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("gpu", True, f"{torch.cuda.device_count()}: {names}")
    return Finding("gpu", None, f"none that torch {torch.__version__} can use; everything runs on the CPU")


def _data(data_dir: Path | None) -> Iterator[Finding]:
    from rstar_eval.tasks import TASKS, task_spec, task_status

    for name in TASKS:
        try:
            status = task_status(name, data_dir=data_dir)
        except UserError as error:
            yield Finding("data", False, f"{name}: {error.message}", error.fix)
            continue
        if status is not None:
            where = f": {status.path}" if status.path else ""
            yield Finding("data", True, f"{name} ({status.kind}{where})")
        else:
            spec = task_spec(name)
            fix = f"fetched at first use, or put {spec.file} into a folder named by --data-dir or RSTAR_EVAL_DATA"
            yield Finding("data", False, name, fix)


def _browser() -> Finding:
    for name in _BROWSERS:
        path = shutil.which(name)
        if path:
            return Finding("browser", True, path)
    return Finding("browser", False, "none found (only the browser tests need one)", "install Chromium")


def _memory() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * size / 2**30:.0f} GiB memory"
