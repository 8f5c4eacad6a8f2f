"""Stored results of a preset: what tables and figures are made of, whether just measured or committed.

RESULTS/seed0/evolution.jsonl.zst            an evolution: its settings and figures, and its pool, solved by which round
RESULTS/seed0/r4+ppm4+search64/TASK.jsonl.zst   a run's scores (scores.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.evolution import Evolution
from rstar_eval.leaderboards.experiments import Metric, Preset, Source
from rstar_eval.leaderboards.measure import Run, run_by
from rstar_eval.leaderboards.models import canonical_name
from rstar_eval.leaderboards.scores import SUFFIX, RunScores, clean_manifest, read_lines, read_scores, write_lines
from rstar_eval.leaderboards.values import curve_values

EVOLUTION = "evolution" + SUFFIX


@dataclass(frozen=True, slots=True)
class StoredEvolution:
    """An evolution as it is stored. last: its last round; final: the round whose policy stands at its end. figures:
    what it measured itself, by round. pool: by problem its level, the only round that searched it (None: every one did)
    and the first round that solved it (None: none)."""

    seed: int
    last: int
    final: int
    settings: Mapping[str, Any]
    figures: list[dict[str, Any]]
    pool: Mapping[str, tuple[str, int | None, int | None]]


def write_evolution(folder: Path, evolution: Evolution) -> None:
    """Store an evolution as a result in RESULTS `folder`."""
    head = {
        "schema": 1, "kind": "evolution", "seed": evolution.seed, "last": evolution.last,
        "final": evolution.kept(evolution.last), "settings": clean_manifest(asdict(evolution.config)),
        "figures": evolution.figures(),
    }  # fmt: skip
    write_lines(folder / f"seed{evolution.seed}" / EVOLUTION, [head, *evolution.solved()])


def read_stored_evolution(path: Path) -> StoredEvolution:
    """Return a stored evolution. UserError if the file holds none."""
    lines = list(read_lines(path))
    if not lines or lines[0].get("schema") != 1 or lines[0].get("kind") != "evolution":
        raise UserError(f"{str(path)!r} is no stored evolution (schema 1)", "make it with rstar-eval reproduce")
    head = lines[0]
    pool = {one["problem"]: (one["level"], one.get("drawn_for"), one["round"]) for one in lines[1:]}
    return StoredEvolution(head["seed"], head["last"], head["final"], head["settings"], head["figures"], pool)


class Results:
    """The results in a folder, read when they are first asked for. limit: problems of each task that count."""

    def __init__(self, folder: Path, preset: Preset, limit: int | None = None) -> None:
        self.folder, self.preset, self.limit = folder, preset, limit
        self._runs: dict[str, RunScores | None] = {}
        self._curves: dict[tuple[int, Source, Metric], dict[int, dict[str, float]]] = {}

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that there are results of."""
        names = [one.name for one in self.folder.glob("seed*") if one.is_dir()]
        return tuple(sorted(int(name[4:]) for name in names if name[4:].isdigit()))

    @cached_property
    def evolutions(self) -> Mapping[int, StoredEvolution]:
        """The evolutions by seed."""
        files = {seed: self.folder / f"seed{seed}" / EVOLUTION for seed in self.seeds}
        return {seed: read_stored_evolution(file) for seed, file in files.items() if file.exists()}

    def canonical(self, name: str, seed: int) -> str:
        """Return a model's one name in a seed."""
        found = self.evolutions.get(seed)
        last, final = (found.last, found.final) if found else (4, 4)
        return canonical_name(self.preset, name, last, final)

    def run(self, source: Source, task: str, seed: int) -> tuple[Run, RunScores | None]:
        """Return the run behind a source's figures on a task, and its scores (None: it is not here)."""
        run = run_by(source, task, seed, lambda name: self.canonical(name, seed))
        if run.key not in self._runs:
            file = self.folder / (run.key + SUFFIX)
            self._runs[run.key] = read_scores(file).first(self.limit) if file.exists() else None
        return run, self._runs[run.key]

    def curve(self, run: RunScores, source: Source, ks: Sequence[int], metric: Metric) -> list[dict[str, float]]:
        """Return for each k the value of each problem of a run that `run` gave (values.curve_values); what was computed
        once is remembered."""
        known = self._curves.setdefault((id(run), source, metric), {})
        missing = [k for k in dict.fromkeys(ks) if k not in known]
        if missing:
            values = curve_values(run, source, missing, metric)
            for place, k in enumerate(missing):
                known[k] = {problem: found[place] for problem, found in values.items()}
        return [known[k] for k in ks]
