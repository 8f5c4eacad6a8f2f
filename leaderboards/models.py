"""The models of a preset: from a name in an experiment to a spec that can be run, and what must be trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.evolution import Evolution
from rstar_eval.leaderboards.experiments import Model, Preset
from rstar_eval.serial import from_data
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.config import TrainConfig
from rstar_eval.training.config import preset as training_preset
from rstar_eval.training.datasets import latest, read_rows, write_rows
from rstar_eval.training.evolve_config import EvolveConfig, evolve_preset
from rstar_eval.training.evolve_jobs import Job

DONE = "training.json"
"""The file that a finished training leaves in its model's folder."""


class NotHere(Exception):
    """A model can't be used in this reproduction; its text says why. The rows that need it are then not run."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of `preset`, with the evolution of each seed that has one, and its control (the same without
    the PPM's guidance). given: specs that replace a model's own
    (of a base to train from: its folder).
    data: files of training rows by name. output: the reproduction's folder. rounds: of an evolution still to be run."""

    preset: Preset
    output: Path
    evolutions: Mapping[int, Evolution] = field(default_factory=dict)
    controls: Mapping[int, Evolution] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Path] = field(default_factory=dict)
    rounds: int = 4

    def model(self, name: str) -> Model:
        """Return the model of this name. KeyError without one."""
        return self.preset.models[name]

    def last(self, seed: int) -> int:
        """Return the last round of a seed's evolution."""
        return self.evolutions[seed].last if seed in self.evolutions else self.rounds

    def canonical(self, name: str, seed: int) -> str:
        """Return the one name of a model that has several in a seed (`canonical_name`)."""
        last = self.last(seed)
        final = self.evolutions[seed].kept(last) if seed in self.evolutions else last
        return canonical_name(self.preset, name, last, final)

    def trained(self, name: str, seed: int) -> Path:
        """Return the folder of a model that the reproduction itself trains."""
        return self.output / "models" / f"seed{seed}" / name

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a checkpoint. NotHere if this reproduction has no such model."""
        model = self.model(name)
        if name in self.given:
            target = self.given[name] if model.folder else self.given[name].partition(":")[2].partition("?")[0]
            if not target:
                raise NotHere(f"{name} is given without a folder")
            return Path(target)
        if model.train:
            return self.trained(name, seed).resolve()
        if model.folder:
            return Path(model.folder)
        if model.evolve is None:
            raise NotHere(f"{name} has no folder")
        if model.control and seed not in self.controls:
            raise NotHere(f"{name} comes from a control evolution of seed {seed}, which is not given (--control DIR)")
        evolution = self.controls[seed] if model.control else self._evolution(name, seed)
        if model.round > evolution.last:
            raise NotHere(f"round {model.round} was not made")
        if "/judges/" in model.evolve and f"round{evolution.last}/judges" not in evolution.stages:
            raise NotHere(f"{name} was not trained: the evolution has no judges after round {evolution.last}")
        if model.evolve.endswith("/judges/ppm") and evolution.config.final is None:
            raise NotHere(f"{name} was not trained: the evolution has no search after its last round")
        if model.evolve == "base":
            return evolution.base
        if model.evolve == "final":
            return evolution.policy(evolution.kept(self.last(seed)))
        return evolution.folder / model.evolve.format(last=self.last(seed))

    def policy(self, name: str, seed: int) -> str:
        """Return the spec of a policy. NotHere as `folder`."""
        model = self.model(name)
        if name in self.given:
            return self.given[name]
        return model.policy or self._settings(seed).policy(str(self.folder(name, seed)))

    def reward(self, name: str, seed: int) -> str:
        """Return the spec of a reward model. NotHere as `folder`, or if it must be given and is not."""
        model = self.model(name)
        if name in self.given:
            return self.given[name]
        if model.reward == "needed":
            raise NotHere(f"no adapter; give one with --model {name}=SPEC")
        return model.reward or self._settings(seed).reward(str(model.kind), str(self.folder(name, seed)))

    def needs_evolution(self, name: str) -> bool:
        """Return whether a model comes from a self-evolution, directly or through its base or rows."""
        model = self.model(name)
        if name in self.given:
            return False
        if model.evolve or model.evolution or (model.train and model.base is None):
            return True
        return bool(model.base) and self.needs_evolution(str(model.base))

    def trainings(self, name: str) -> list[str]:
        """Return the models to be trained for `name`, itself last."""
        model = self.model(name)
        if not model.train or name in self.given:
            return []
        return [*(self.trainings(model.base) if model.base else []), name]

    def check_trained(self, name: str, seed: int) -> None:
        """NotHere if a model that the reproduction trains has not been trained."""
        if self.model(name).train and name not in self.given and not (self.trained(name, seed) / DONE).exists():
            raise NotHere(f"{name} was not trained")

    def training_job(self, name: str, seed: int) -> Job:
        """Return the job that trains a model, its rows written. NotHere if rows or base are missing."""
        model = self.model(name)
        assert model.train is not None, "only models that are trained have a training"
        output = self.trained(name, seed)
        kind, rows_kind = model.train, "sft" if model.train == "sft" else "pairs"
        if model.base is None or model.evolution:
            rows, start, config = self._from_evolution(name, model, seed, output)
            if model.base is not None:
                start = self.folder(model.base, seed)
        else:
            if model.data is None or model.data not in self.data:
                raise NotHere(f"its training rows are not given (--data {model.data}=FILE)")
            rows, start = self.data[model.data], self.folder(model.base, seed)
            if not (start / "config.json").is_file():
                raise NotHere(f"no base model at {str(start)!r} (--model {model.base}=FOLDER)")
            config = training_preset(self.preset.name, kind)
        config = from_data(TrainConfig, {**asdict(config), **model.set}, f"settings of {name}")
        return Job(
            f"train-{name}-{seed}",
            {
                "job": "train", "kind": kind, "rows": str(rows), "rows_kind": rows_kind, "base": str(start),
                "output": str(output), "config": asdict(config), "threads": 1, "facts": {"reproduction": name},
            },
        )  # fmt: skip

    def _from_evolution(self, name: str, model: Model, seed: int, output: Path) -> tuple[Path, Path, TrainConfig]:
        """Return rows, base and settings of an ablation: the evolution's last round's, but for what `model` says."""
        evolution = self._evolution(name, seed)
        settings, last = evolution.config, self.last(seed)
        data = [evolution.folder / f"round{number}" / "data" for number in range(1, last + 1)]
        if model.train == "ppm":
            config = replace(settings.ppm, seed=derive_seed(seed, "train", "ppm", last))
            if settings.final is None:
                return data[-1] / "pairs-union.jsonl", evolution.policy(last), config
            pairs = evolution.folder / f"round{last}" / "judges" / "pairs.jsonl"
            return pairs, evolution.policy(evolution.kept(last)), replace(config, max_steps=settings.final.steps)
        rows = output.with_name(f"{name}.jsonl")
        if not rows.exists():
            rows.parent.mkdir(parents=True, exist_ok=True)
            write_rows(rows, latest([read_rows(folder / f"{model.data}.jsonl", "sft") for folder in data]))
        return rows, evolution.base, replace(settings.sft_of(last), seed=derive_seed(seed, "train", "sft", last))

    def _evolution(self, name: str, seed: int) -> Evolution:
        if seed not in self.evolutions:
            raise NotHere(f"{name} comes from an evolution of seed {seed}, which is not here (--evolve DIR)")
        return self.evolutions[seed]

    def _settings(self, seed: int) -> EvolveConfig:
        """Return the settings whose specs' options hold: the evolution's, or those of the preset."""
        return self.evolutions[seed].config if seed in self.evolutions else _preset_settings(self.preset.name)


@cache
def _preset_settings(name: str) -> EvolveConfig:
    return evolve_preset(name)


def canonical_name(preset: Preset, name: str, last: int, final: int) -> str:
    """Return the one name of a model: `final` is the policy of round `final`, `last` the one of round `last` (kept or
    not), `ppm-rounds` the PPM of round `last`."""
    model = preset.models[name]
    if model.evolve == "final":
        return f"r{final}"
    names = {"round{last}/policy": "r", "round{last}/ppm": "ppm"}
    return f"{names[model.evolve]}{last}" if model.evolve in names else name


def parse_pairs(option: str, pairs: list[str]) -> dict[str, str]:
    """Return NAME=VALUE pairs of an option. UserError on one without "=" or of a name that occurs twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip() or name.strip() in found:
            raise UserError(f"{option} {pair!r} is not NAME=VALUE, once a name", f"write {option} NAME=VALUE")
        found[name.strip()] = value.strip()
    return found
