"""Experiments: which measurements feed which cells of the paper's tables and figures, read from experiments/*.yaml.

A preset file says what is there to be measured (models, searches, tasks behind the paper's columns); a table's or
figure's file says which of them each row needs. A cell is a row in a column; nothing is written down twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from rstar_eval.errors import UserError, nearest
from rstar_eval.leaderboards.published import PublishedRow, benchmarks, published_figure, published_table
from rstar_eval.serial import from_data
from rstar_eval.solver.config import ChoiceRule

PRESETS = ("mini", "paper")
Metric = Literal["accuracy", "coverage", "tokens", "solved"]
"""accuracy: share of problems whose chosen answer is right. coverage: pass@N, share with a right one among N (both in
percent). tokens: completion tokens a trajectory. solved: share of the training problems solved so far, in percent."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a cell's figure comes from: a policy and, where there is one, a reward model of the preset, searched as
    `search` says. judge: a reward model that scored the stored solutions afterwards. choose: another rule than the
    run's own. at: only the first so many trajectories (None: all). solved: a round, of Table 2."""

    policy: str = ""
    search: str = ""
    reward: str | None = None
    judge: str | None = None
    choose: ChoiceRule | None = None
    at: int | None = None
    solved: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, or a curve, line or bar of a figure (`role`).

    source: None if there is no way to measure it at this preset. against: the row that it is compared with. extra: not
    a row of the paper.
    """

    id: str
    name: str
    source: Source | None
    role: Literal["row", "curve", "line", "policy", "system2"] = "row"
    against: str | None = None
    extra: bool = False
    group: str | None = None
    inference: str | None = None
    published: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A table or a figure at one preset. columns: the paper's, each with the task (or levels) measured for it, None
    where there is none. x: numbers of trajectories (figures). tests: pairs of curves to compare."""

    id: str
    kind: Literal["table", "figure"]
    number: int
    title: str
    unit: str
    metric: Metric
    columns: Mapping[str, str | None]
    rows: tuple[Row, ...]
    x: tuple[int, ...] = ()
    tests: tuple[tuple[str, str], ...] = ()

    def row(self, id: str) -> Row:
        """Return the row with this id. KeyError if there is none."""
        return {row.id: row for row in self.rows}[id]


@dataclass(frozen=True, slots=True)
class Model:
    """A policy or reward model of a preset.

    policy, reward: a spec, ready to use ("needed": must be given with --model). folder: of a base to train from.
    evolve: its folder in an evolution ("base", "final": the last policy that was kept; {last}: the last round).
    control: of the control evolution, not of the ordinary one.
    train: a training (sft, ppm) on the rows `data` from `base` with `set`; evolution: rows of the evolution's rounds.
    kind: of a reward model. round: of its evolution. prompt, hardware, parameters (active: of a mixture of experts),
    gpus: what it needs.
    """

    policy: str | None = None
    reward: str | None = None
    folder: str | None = None
    evolve: str | None = None
    train: Literal["sft", "ppm"] | None = None
    data: str | None = None
    base: str | None = None
    kind: Literal["ppm", "pqm", "orm"] | None = None
    round: int = 0
    set: Mapping[str, Any] = field(default_factory=dict)
    evolution: bool = False
    control: bool = False
    prompt: str = ""
    hardware: str = ""
    parameters: float = 0.0
    active: float = 0.0
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Preset:
    """What can be measured at a preset. columns: the paper's column to our task. pooled: title of the column that all
    tasks make together ("": none). searches: settings by name. costs: what the plan's arithmetic needs."""

    name: str
    seeds: tuple[int, ...]
    columns: Mapping[str, str]
    models: Mapping[str, Model]
    searches: Mapping[str, Mapping[str, Any]]
    costs: Mapping[str, Any]
    hardware: str = ""
    pooled: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in order."""
        return tuple(dict.fromkeys(self.columns.values()))


def experiment_ids() -> tuple[str, ...]:
    """Return the ids of all tables and figures: table1 ... table10, figure3, figure5, figure7."""
    names = [one.name.removesuffix(".yaml") for one in _folder().iterdir() if one.name.endswith(".yaml")]
    known = [name for name in names if not name.startswith("preset-")]
    return tuple(sorted(known, key=lambda name: (name[0] != "t", int(name.lstrip("tablefigur")))))


@cache
def load_preset(name: str) -> Preset:
    """Return a preset's models, searches and tasks. UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}", nearest(name, PRESETS))
    data = _read(f"preset-{name}.yaml")
    if data["columns"] == "same":
        data["columns"] = {column: one.task for column, one in benchmarks().items()}
    return from_data(Preset, data, f"preset-{name}.yaml")


@cache
def load_experiment(id: str, preset: str) -> Experiment:
    """Return one table or figure at a preset. UserError for an unknown id."""
    if id not in experiment_ids():
        raise UserError(f"unknown table or figure {id!r}", nearest(id, [*experiment_ids(), "all"]))
    data, setting = _read(f"{id}.yaml"), load_preset(preset)
    return _table(id, data, setting) if "table" in data else _figure(id, data, setting)


def _table(id: str, data: Mapping[str, Any], preset: Preset) -> Experiment:
    table = published_table(data["table"])
    given = data.get("columns", {}).get(preset.name)
    columns = {name: (given or preset.columns).get(name) for name in table.columns}
    entries = {row.id: row for row in table.rows}
    unknown = set(data["rows"]) - set(entries)
    if unknown:
        raise RuntimeError(f"{id}.yaml has rows that the paper has not: {sorted(unknown)}")
    rows = [_row(row.id, row.name, data["rows"].get(row.id, {}), preset.name, published=row) for row in table.rows]
    for name, entry in data.get("extra", {}).items():
        rows.append(replace(_row(name, entry["name"], entry, preset.name), extra=True))
    metric = data.get("metric", "accuracy")
    return Experiment(id, "table", table.number, table.title, table.unit, metric, columns, tuple(rows))


def _figure(id: str, data: Mapping[str, Any], preset: Preset) -> Experiment:
    shown = published_figure(data["figure"])
    columns = {name: preset.columns.get(name) for name in shown["panels"]}
    rows: list[Row] = []
    for role, key in (("curve", "curves"), ("line", "lines")):
        for name, entry in data.get(key, {}).items():
            rows.append(replace(_row(name, entry["name"], entry, preset.name), role=role))  # type: ignore[arg-type]
    for name, bars in data.get("bars", {}).items():
        for role in ("policy", "system2"):
            found = dict(zip(shown["panels"], shown["bars"][name][role], strict=True))
            row = _row(f"{name}/{role}", name, bars[role], preset.name)
            rows.append(replace(row, role=role, published=found))  # type: ignore[arg-type]
    tests = tuple((one, other) for one, others in data.get("against", {}).items() for other in others)
    metric, x = data.get("metric", "accuracy"), tuple(data.get("x", ()))
    return Experiment(
        id, "figure", data["figure"], shown["title"], "percent", metric, columns, tuple(rows), x, tests
    )  # fmt: skip


def _row(id: str, name: str, entry: Mapping[str, Any], preset: str, published: PublishedRow | None = None) -> Row:
    found = entry.get(preset, entry.get("both"))
    source = from_data(Source, found, f"row {id}") if found is not None else None
    return Row(
        id, name, source, against=entry.get("against"),
        group=published.group if published else None,
        inference=published.inference if published else entry.get("inference"),
        published=published.values if published else {},
    )  # fmt: skip


def _folder() -> Any:
    return resources.files("rstar_eval.leaderboards") / "experiments"


def _read(name: str) -> dict[str, Any]:
    data = yaml.safe_load((_folder() / name).read_text(encoding="utf-8"))
    return dict(data)
