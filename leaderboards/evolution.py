"""A finished self-evolution, read from its folder: where its models lie, what its rounds solved (docs/evolve.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.serial import from_data
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_figures import read_runs, round_figures, solved
from rstar_eval.training.evolve_pool import FINAL, drawn_for
from rstar_eval.training.evolve_worker import read_problems


@dataclass(frozen=True, slots=True)
class Evolution:
    """An evolution: its folder, settings, finished stages, and the last round that counts (`last`)."""

    folder: Path
    config: EvolveConfig
    stages: dict[str, dict[str, Any]]
    last: int

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed

    @property
    def base(self) -> Path:
        """The folder of the policy that every round fine-tunes."""
        return Path(self.config.base) if self.config.base else self.folder / "base" / "policy"

    def kept(self, number: int) -> int:
        """Return the round whose policy stands after round `number`: itself, or the last one that was kept (0: the
        base)."""
        for back in range(number, 0, -1):
            gate = self.stages.get(f"round{back}/gate")
            if gate is None or gate["kept"]:
                return back
        return 0

    def policy(self, number: int) -> Path:
        """Return the folder of round `number`'s own policy (0: the base)."""
        return self.folder / f"round{number}" / "policy" if number else self.base

    def solved(self) -> list[dict[str, Any]]:
        """Return of each problem its id, level, the only round that searches it (drawn_for; None: every one does) and
        the first round that solved it (None: none did). Those of the search after the last round are left out."""
        first: dict[str, int] = {}
        for number in range(self.last, 0, -1):
            for name in ("search", "more"):
                stores = sorted((self.folder / f"round{number}" / name).glob("shard*"))
                first |= {key: number for key, hit in solved(read_runs(stores)).items() if hit}
        pool = read_problems(self.folder / "pool.jsonl")
        return [
            {"problem": one.id, "level": one.level or "", "drawn_for": drawn, "round": first.get(one.id)}
            for one, drawn in zip(pool, drawn_for(pool, self.config), strict=True)
            if drawn != FINAL
        ]

    def figures(self) -> list[dict[str, Any]]:
        """Return the figures that the evolution itself measured, by round."""
        return [one for one in round_figures(self.stages) if one["round"] <= self.last]


def read_evolution(folder: Path, rounds: int | None = None) -> Evolution:
    """Return the evolution in `folder`, with at most `rounds` rounds.

    UserError if the folder holds none, or none with a finished round.
    """
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        settings, stages = state["settings"], state["stages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(folder)!r} holds no evolution: {error}", "give a folder that rstar-eval evolve made"
        ) from None
    config = from_data(EvolveConfig, settings, str(path))
    ended = [int(name.split("/")[0][5:]) for name in stages if name.endswith("/gate")]
    fitting = [number for number in ended if rounds is None or number <= rounds]
    if not fitting:
        raise UserError(f"the evolution in {str(folder)!r} has no finished round", "let rstar-eval evolve run on")
    return Evolution(folder.resolve(), config, stages, max(fitting))
