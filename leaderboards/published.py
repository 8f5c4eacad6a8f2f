"""The paper's published figures (arXiv 2501.04519): Tables 1 to 10 and Figures 3, 5 and 7, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from rstar_eval.errors import UserError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a table.

    id: unique in its table. values: by column; None where the paper reports nothing. group, method ("System 1",
    "System 2"), inference, models: what the paper says of the row. note: what is uncertain about the transcription.
    """

    id: str
    name: str
    values: dict[str, float | None]
    group: str | None = None
    method: str | None = None
    inference: str | None = None
    models: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table: its number in the paper, our short title, the unit of its values and its rows in the paper's order."""

    number: int
    title: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def row(self, id: str) -> PublishedRow:
        """Return the row with this id. KeyError if there is none."""
        return {row.id: row for row in self.rows}[id]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A column that is a benchmark: its label, the task of ours with the same problems, how many the paper used."""

    label: str
    task: str
    problems: int
    note: str = ""


def published_table(number: int) -> PublishedTable:
    """Return Table `number` of the paper. UserError if it has none of that number."""
    tables = _data()["tables"]
    if str(number) not in tables:
        raise UserError(f"the paper has no table {number}", f"known: {', '.join(tables)}")
    table = tables[str(number)]
    rows = tuple(PublishedRow(**row) for row in table["rows"])
    return PublishedTable(number, table["title"], table["unit"], tuple(table["columns"]), rows)


def published_tables() -> tuple[PublishedTable, ...]:
    """Return all tables in order."""
    return tuple(published_table(int(number)) for number in _data()["tables"])


def published_figure(number: int) -> dict[str, Any]:
    """Return what the paper's Figure `number` shows: title, panels, x, and the printed numbers where it has any.

    UserError if it is not one of the transcribed figures.
    """
    figures = _data()["figures"]
    if str(number) not in figures:
        raise UserError(f"figure {number} is not transcribed", f"known: {', '.join(figures)}")
    return dict(figures[str(number)])


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmarks that columns stand for, by column."""
    return {name: Benchmark(**entry) for name, entry in _data()["benchmarks"].items()}


@cache
def _data() -> dict[str, Any]:
    data = json.loads((resources.files("rstar_eval.leaderboards") / "published.json").read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise RuntimeError(f"published.json has schema {data.get('schema')!r}, this code reads {SCHEMA}")
    return dict(data)
