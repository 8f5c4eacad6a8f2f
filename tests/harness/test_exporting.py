"""Exports that other tools read: every trajectory and row is there, in the stated form."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from rstar_eval.cli import app
from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.evaluation import run_config
from rstar_eval.exporting import export, stepwise_rows
from rstar_eval.progress import make_progress
from rstar_eval.records import read_log
from rstar_eval.training.datasets import write_rows
from rstar_eval.training.rows import OutcomeRow, PairRow, Provenance, SftRow, ValueRow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, nothing_runs_here: None) -> Path:
    from rich.console import Console

    path = tmp_path_factory.mktemp("runs") / "run"
    config = build_config({"tasks": "mini_math", "policy": "scripted", "rollouts": 3, "limit": 4})
    run_config(config, path, make_progress(Console(quiet=True)))
    return path


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_every_trajectory_becomes_a_row(run: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"t.{ending}"
    found = sum(len(one.trajectories) for one in read_log(run).searches.values())
    assert export(run, file) == found > 0
    kind = "parquet" if ending == "parquet" else "json"
    rows = datasets.load_dataset(kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == found
    first = rows[0]
    assert first["task"] == "mini_math"
    assert first["question"]
    assert first["outcome"] in ("correct", "wrong", "no_answer")
    assert "".join(step["text"] for step in first["steps"]) == first["text"]
    assert first["tokens"] == sum(step["tokens"] for step in first["steps"])
    assert {(row["tree"], row["rollout"]) for row in rows if row["problem"] == first["problem"]} == {
        (0, 0),
        (0, 1),
        (0, 2),
    }


SOURCE = Provenance(run="r", round=2, problem="a" * 16)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (SftRow("Q", "R", source=SOURCE), {"completion": "R"}),
        (PairRow("p", "a", "b", 2, 1, margin=0.5, source=SOURCE),
         {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 0.5, "weight": 0.5}),
        (ValueRow("p", "s", 0.25, source=SOURCE), {"prompt": "p", "completion": "s", "value": 0.25}),
        (OutcomeRow("p", "s", True, source=SOURCE), {"prompt": "p", "completion": "s", "label": True}),
    ],
)  # fmt: skip
def test_training_rows_come_in_trl_s_types(tmp_path: Path, row: object, expected: dict[str, object]) -> None:
    write_rows(tmp_path / "rows.jsonl", [row])  # type: ignore[list-item]
    assert export(tmp_path / "rows.jsonl", tmp_path / "trl.jsonl") == 1
    found = json.loads((tmp_path / "trl.jsonl").read_text())
    assert {key: found[key] for key in expected} == expected
    assert (found["problem"], found["round"]) == ("a" * 16, 2)
    if isinstance(row, SftRow):
        assert found["prompt"].startswith("<|user|>:\nQ\n<|assistant|>")
    assert export(tmp_path / "rows.jsonl", tmp_path / "trl.parquet") == 1


def _value(node: str, q: float, *, tree: int = 0) -> ValueRow:
    before = "".join(f"<{'.'.join(node.split('.')[: i + 1])}>" for i in range(1, node.count(".")))
    return ValueRow("Q" + before, f"<{node}>", q, source=Provenance(run="r", problem="a" * 16, tree=tree, node=node))


def test_step_values_become_stepwise_supervision(tmp_path: Path) -> None:
    rows = [
        _value("0.1", 0.5), _value("0.1.1", -0.2), _value("0.1.1.1", -1), _value("0.1.2", 1),
        _value("0.1", 0, tree=1),  # another tree, the same tag
        _value("0.2.1", 0.1), _value("0.2.1.3", 0.1),  # 0.2 is not in the file
    ]  # fmt: skip
    write_rows(tmp_path / "values.jsonl", rows)
    found = {tuple(row["completions"]): row for row in stepwise_rows(tmp_path / "values.jsonl")}
    assert {steps: (row["prompt"], row["labels"]) for steps, row in found.items()} == {
        ("<0.1>", "<0.1.1>", "<0.1.1.1>"): ("Q", [True, False, False]),
        ("<0.1>", "<0.1.2>"): ("Q", [True, True]),
        ("<0.1>",): ("Q", [False]),
        ("<0.2.1>", "<0.2.1.3>"): ("Q<0.2>", [True, True]),
    }
    for row in found.values():  # a path reads as it was written
        assert row["prompt"] + "".join(row["completions"][:-1]) == _value(row["completions"][-1][1:-1], 0).prompt
    assert export(tmp_path / "values.jsonl", tmp_path / "prm", stepwise=True) == len(found)
    loaded = datasets.load_from_disk(str(tmp_path / "prm"))
    assert [tuple(row["completions"]) for row in loaded] == list(found)
    assert loaded.features["labels"].feature.dtype == "bool"


def test_texts_that_are_no_unicode_are_exported(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [OutcomeRow("p", "a \ud83d b", False)])
    assert export(tmp_path / "rows.jsonl", tmp_path / "o.jsonl") == 1
    assert export(tmp_path / "rows.jsonl", tmp_path / "o.parquet") == 1


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("rows.jsonl", "o.csv", "ends in .csv"),
        ("rows.jsonl", "rows.jsonl", "exists already"),
        ("nothing", "o.jsonl", "no run folder and no data file"),
        ("broken.jsonl", "o.jsonl", "broken.jsonl"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, source: str, output: str, message: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [SftRow("Q", "R")])
    (tmp_path / "broken.jsonl").write_text('{"what": 1}\n')
    with pytest.raises(UserError, match=message):
        export(tmp_path / source, tmp_path / output)


def test_rows_without_step_values_have_no_stepwise_form(tmp_path: Path, run: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [SftRow("Q", "R")])
    with pytest.raises(UserError, match="step values are needed"):
        export(tmp_path / "rows.jsonl", tmp_path / "o.jsonl", stepwise=True)
    with pytest.raises(UserError, match="has no step values"):
        export(run, tmp_path / "p.jsonl", stepwise=True)


def test_the_command_is_there() -> None:
    assert "export" in {one.name for one in app.registered_commands}
