"""The paper's figures as we carry them: whole, well formed, and equal to the checked transcription."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.published import benchmarks, published_figure, published_table, published_tables
from rstar_eval.tasks.registry import task_spec


def test_all_ten_tables_are_there_with_unique_rows() -> None:
    tables = published_tables()
    assert [one.number for one in tables] == list(range(1, 11))
    for table in tables:
        ids = [row.id for row in table.rows]
        assert len(set(ids)) == len(ids)
        for row in table.rows:
            assert set(row.values) == set(table.columns)
            top = 100 if table.unit == "percent" else 100_000
            assert all(value is None or 0 <= value <= top for value in row.values.values())


def test_every_benchmark_column_has_a_task_of_its_size() -> None:
    known = benchmarks()
    for table in published_tables():
        if table.number != 2:
            assert set(table.columns) <= set(known)
    for one in known.values():
        assert task_spec(one.task).size == one.problems


@pytest.mark.parametrize(
    ("column", "value"), [("math", 90.0), ("aime2024", 53.3), ("olympiadbench", 65.6), ("collegemath", 60.5)]
)
def test_the_headline_figures_of_the_paper(column: str, value: float) -> None:
    row = published_table(5).row("qwen2.5-math-7b-rstar-math-64-trajectories-7b-slm-7b-ppm")
    assert row.values[column] == value
    assert published_table(1).row("rstar-math-qwen-7b").values[column] == value


def test_unknown_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="no table 11"):
        published_table(11)
    with pytest.raises(UserError, match="figure 4"):
        published_figure(4)


def test_cell_by_cell_equal_to_the_transcription(shared_data: Path) -> None:
    source = json.loads((shared_data / "paper" / "published.json").read_text(encoding="utf-8"))
    tables = {str(one.number): one for one in published_tables()}
    assert set(tables) == set(source["tables"])
    for number, theirs in source["tables"].items():
        ours = tables[number]
        assert list(ours.columns) == theirs["columns"]
        assert [row.name for row in ours.rows] == [row["name"] for row in theirs["rows"]]
        for row, other in zip(ours.rows, theirs["rows"], strict=True):
            assert row.values == other["values"], (number, row.id)
            for key in ("group", "method", "inference", "models"):
                assert getattr(row, key) == other.get(key)
    for number, theirs in source["figures"].items():
        ours_figure = published_figure(int(number))
        for key in ("panels", "x", "bars", "curves"):
            assert ours_figure.get(key) == theirs.get(key)
