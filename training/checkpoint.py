"""The folder of a training: what it trains, checkpoints to go on from, and the finished model.

identity.json       written first: data, base and settings; a training of anything else is refused
checkpoints/        checkpoint-N folders, gone when the training is finished; `complete` in each is written last
logs/               TensorBoard
config.json, *.safetensors, tokenizer files, reward.json       the finished model
training.json       written last: the training is finished
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.training.config import NOT_IDENTITY, TrainConfig, TrainKind
from rstar_eval.training.files import write_bytes

IDENTITY, FINISHED, CHECKPOINTS, LOGS, COMPLETE = "identity.json", "training.json", "checkpoints", "logs", "complete"
SCHEMA = 1


def identity(kind: TrainKind, data_sha256: str, base_sha256: str, config: TrainConfig) -> dict[str, Any]:
    """Return what makes two trainings the same training."""
    settings = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY}
    if config.head != "token_logratio":
        del settings["beta"]
    return {"schema": SCHEMA, "kind": kind, "data_sha256": data_sha256, "base_sha256": base_sha256, "config": settings}


def claim(folder: Path, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Prepare a training's folder. Returns training.json if the same training is finished there, else None.

    UserError if the folder holds another training, or files that are none.
    """
    path = folder / IDENTITY
    if path.exists():
        there = read_json(path)
        differing = [key for key in found if key != "config" and there.get(key) != found[key]]
        settings, old = found["config"], there.get("config", {})
        differing += [f"config.{key} ({old.get(key)!r} there)" for key in settings if old.get(key) != settings[key]]
        if differing:
            raise UserError(
                f"{str(folder)!r} holds another training: {', '.join(differing)} differ", "give another --output"
            )
        return read_json(folder / FINISHED) if (folder / FINISHED).exists() else None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output {str(folder)!r} is not empty and holds no training", "give a new folder with --output")
    write_bytes(path, (json.dumps(found, indent=2) + "\n").encode())
    return None


def last_complete(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end (None: there is none), and remove the torn ones."""
    newest: tuple[int, Path] | None = None
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        if not (path / COMPLETE).exists():
            shutil.rmtree(path)
            continue
        step = int(path.name.rpartition("-")[2])
        if newest is None or step > newest[0]:
            newest = (step, path)
    return newest[1] if newest else None


def finish(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write training.json, then remove the checkpoints: from now on the training is finished."""
    write_bytes(folder / FINISHED, (json.dumps(manifest, indent=2) + "\n").encode())
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file. UserError if it can't be read or is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {str(path)!r}: {error}", "remove its folder, or give another") from None
    if not isinstance(data, dict):
        raise UserError(f"{str(path)!r} holds a {type(data).__name__}", "remove its folder, or give another")
    return data
