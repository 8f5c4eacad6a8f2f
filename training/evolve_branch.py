"""Begin an evolution with the first rounds of another one: a control differs from there on, and costs only the rest."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_state import STATE, differences, is_empty
from rstar_eval.training.evolve_worker import write_json


def branch(config: EvolveConfig, folder: Path, origin: str) -> None:
    """Copy the base and the first rounds of another evolution into `folder`; `origin` is "FOLDER:ROUNDS".

    Does nothing if `folder` began so before (the command is given again to continue). UserError if `origin` is no
    evolution, lacks one of these rounds, or has other settings than `config` in anything but the plans of the rounds
    after them; or if `folder` is not empty and began otherwise.
    """
    match = re.fullmatch(r"(.+):([0-9]+)", origin)
    if match is None:
        raise UserError(f"can't read --branch {origin!r}", "give FOLDER:ROUNDS, for example evolution:2")
    source, rounds = Path(match[1]).resolve(), int(match[2])
    data = _state(source)
    settings = json.loads(json.dumps(asdict(config)))
    stated = {"from": str(source), "rounds": rounds}
    if (folder / STATE).exists():
        began = _state(folder).get("branch")
        if began != stated:
            raise UserError(f"{str(folder)!r} did not begin with {origin}", "give a new folder with --output")
        return
    if not is_empty(folder):
        raise UserError(f"{str(folder)!r} is not empty and holds no evolution", "give a new folder with --output")
    wrong = differences(_shared(data["settings"], rounds), _shared(settings, rounds))
    if wrong:
        raise UserError(
            f"{str(source)!r} has other settings: {'; '.join(wrong)}",
            f"only plans of the rounds after {rounds} may differ",
        )
    kept = {name: figures for name, figures in data["stages"].items() if _number(name) <= rounds}
    kept = {name: figures for name, figures in kept.items() if not name.endswith(("/judges", "/final"))}
    last = f"round{rounds}/gate" if rounds else "round0/evaluate"
    if last not in kept:
        raise UserError(f"{str(source)!r} has not finished round {rounds}", "finish it, or take fewer rounds")
    for part in ("pool.jsonl", "validation.jsonl"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / part, folder / part)
    for part in ("base", *(f"round{number}" for number in range(rounds + 1))):
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("judges", "final", "lock"))
    # Last: without it the folder holds no evolution, and a copy that was cut off is not taken for one.
    write_json(folder / STATE, {"schema": data["schema"], "settings": settings, "stages": kept, "branch": stated})


def _state(folder: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        data["schema"], data["settings"]["plans"], data["stages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"no evolution in {str(folder)!r}: {error}", "give the --output of an evolve") from None
    return data


def _shared(settings: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Return the settings that the first `rounds` rounds depend on."""
    plans = settings["plans"]
    used = [plans[min(number, len(plans)) - 1] for number in range(1, rounds + 1)]
    return {**settings, "plans": {str(place): plan for place, plan in enumerate(used)}}


def _number(stage: str) -> int:
    match = re.match(r"round([0-9]+)/", stage)
    return int(match[1]) if match else 0
