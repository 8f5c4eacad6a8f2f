"""The checkpoints that are part of the package: the miniature's policies of every round and its reward models.

They are in training/checkpoints/, a folder each with a model card, and are made by `rstar-eval evolve --preset mini`.
Every spec that takes the path of a checkpoint takes "embedded/NAME" as well: hf:embedded/r4, ppm:embedded/ppm.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rstar_eval.errors import UserError, nearest

PREFIX = "embedded/"


def model_path(target: str) -> Path:
    """Return the folder that a model spec's target names: of an embedded checkpoint after "embedded/", else a path."""
    return checkpoint(target.removeprefix(PREFIX)) if target.startswith(PREFIX) else Path(target).expanduser()


def checkpoints() -> tuple[str, ...]:
    """Return the names of the checkpoints, sorted."""
    return tuple(sorted(file.parent.name for file in _folder().glob("*/config.json")))


def checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint. UserError with the nearest name if there is none of this name."""
    if name not in checkpoints():
        raise UserError(f"no embedded checkpoint {name!r}", nearest(name, checkpoints()))
    return _folder() / name


def _folder() -> Path:
    return Path(str(resources.files("rstar_eval.training"))) / "checkpoints"
