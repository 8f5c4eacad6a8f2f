"""The checkpoints that are part of the package: the miniature's policies of every round and its reward models.

They are in training/checkpoints/, a folder each with a model card, and are made by `rstar-eval evolve --preset mini`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rstar_eval.errors import UserError, nearest

POLICY, REWARD = "r4", "ppm"
"""The default policy and reward model."""


def checkpoints() -> tuple[str, ...]:
    """Return the names of the checkpoints, sorted."""
    folder = Path(str(resources.files("rstar_eval.training"))) / "checkpoints"
    return tuple(sorted(one.name for one in folder.iterdir() if (one / "config.json").is_file()))


def checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint. UserError with the nearest name if there is none of this name."""
    if name not in checkpoints():
        raise UserError(f"no embedded checkpoint {name!r}", nearest(name, checkpoints()))
    return Path(str(resources.files("rstar_eval.training"))) / "checkpoints" / name
