"""`rstar-eval evolve`: what the command does with its options."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rstar_eval.engine.config import LOCAL, EngineConfig, check_engine
from rstar_eval.errors import UserError
from rstar_eval.training.evolve_branch import branch
from rstar_eval.training.evolve_config import EvolveConfig, evolve_preset
from rstar_eval.training.evolve_figures import summary_text
from rstar_eval.training.evolve_jobs import accelerate_config
from rstar_eval.training.evolve_state import alone

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_ROUNDS = 4


def evolve_command(
    preset: str,
    output: Path,
    rounds: int,
    seed: int,
    settings: Mapping[str, object],
    until: str | None,
    dry_run: bool,
    console: Console,
    where: EngineConfig = LOCAL,
    accelerate: str | None = None,
    origin: str | None = None,
) -> None:
    """Run a self-evolution, or continue the one in `output`; with `dry_run` print its stages and settings instead.
    where: what does the searches. accelerate: how trainings are launched (evolve_jobs.accelerate_config). origin: the
    evolution whose first rounds this one begins with (evolve_branch.branch).

    UserError for a preset, setting or stage that there is none of, a base model that is no folder, a missing package, a
    folder that another process is at.
    """
    if rounds < 1:
        raise UserError(f"the number of rounds is {rounds}", "give at least 1")
    config = evolve_preset(preset, settings, seed)
    stages = stage_names(config, rounds)
    check_until(until, stages)
    launched = accelerate_config(accelerate)
    check_engine(where, config.policy("POLICY"), config.reward("ppm", "PPM"))
    if dry_run:
        console.print(plan_text(config, stages), highlight=False, markup=False, soft_wrap=True)
        return
    _check_surroundings(config)
    from rstar_eval.training.evolve import Evolution, write_summary

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with alone(output):
        if origin is not None:
            branch(config, output, origin)
        evolution = Evolution(config, output, say, where, launched)
        try:
            evolution.run(rounds, until)
        finally:
            write_summary(evolution)
    console.print(summary_text(evolution.figures(), f"{output}"), highlight=False, markup=False, soft_wrap=True)


def stage_names(config: EvolveConfig, rounds: int) -> list[str]:
    """Return the names of the stages of an evolution, in order."""
    names = ["round0/evaluate"] if config.base else ["base", "round0/evaluate"]
    for number in range(1, rounds + 1):
        more = ["more"] if config.plan(number).more is not None else []
        names += [f"round{number}/{stage}" for stage in ("search", *more, "data", "train", "evaluate", "gate")]
    final = [] if config.final is None else [f"round{rounds}/final"]
    return [*names, *final, f"round{rounds}/judges"]


def check_until(until: str | None, stages: list[str]) -> None:
    """Raise UserError unless `until` is None, a stage, or a round."""
    rounds = {name.split("/")[0] for name in stages if re.fullmatch(r"round[1-9]\d*/.*", name)}
    if until is not None and until not in stages and until not in rounds:
        raise UserError(f"no stage {until!r}", f"stages: {', '.join(stages)}, or a round as a whole (round1)")


def plan_text(config: EvolveConfig, stages: list[str]) -> str:
    """Return what an evolution would do: its stages and settings."""
    lines = [f"preset {config.name}, seed {config.seed}", "stages: " + ", ".join(stages), "settings:"]

    def add(data: object, prefix: str) -> None:
        if isinstance(data, Mapping) and data:
            for key, value in data.items():
                add(value, f"{prefix}.{key}" if prefix else str(key))
        elif isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
            for place, value in enumerate(data):
                add(value, f"{prefix}.{place}")
        else:
            lines.append(f"  {prefix}: {data}")

    add(asdict(config), "")
    return "\n".join(lines)


def _check_surroundings(config: EvolveConfig) -> None:
    for package in ("torch", "transformers", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed", "pip install 'rstar-eval[train]'")
    if config.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError("vllm is not installed, which preset paper searches with", "see docs/evolve.md, or --dry-run")
    if config.base and not (Path(config.base) / "config.json").is_file():
        raise UserError(f"no base model at {config.base!r}", "give a saved model's folder with --set base=PATH")
