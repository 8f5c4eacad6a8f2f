"""Submitted results: checked, without texts, and what the committed tables are made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.experiments import PRESETS, experiment_ids, load_experiment
from rstar_eval.leaderboards.scores import clean_manifest, read_lines, read_scores, write_scores
from rstar_eval.leaderboards.submit import check_file, render_stored, schema, submit

BOARD = Path(__file__).resolve().parents[2] / "leaderboards"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A leaderboards/ folder to submit to."""
    folder = tmp_path / "leaderboards"
    folder.mkdir()
    shutil.copy(BOARD / "published.json", folder)
    return folder


def test_a_run_is_stored_without_a_text_of_question_solution_or_answer(scripted_run: Path, board: Path) -> None:
    (file,) = submit(scripted_run, board, "mine")
    assert file == board / "results" / "runs" / "mine" / "mini_math.jsonl.zst"
    head, *lines = read_lines(file)
    allowed = {
        "problem",
        "index",
        "level",
        "outcome",
        "tokens",
        "groups",
        "right",
        "scores",
        "shares",
        "spent",
        "judges",
    }
    assert all(set(line) <= allowed for line in lines)
    assert len(lines) == 6
    assert head["manifest"]["config"]["rollouts"] == 8
    text = json.dumps([head, *lines])
    assert "How many" not in text
    assert str(scripted_run.parent) not in text


def test_the_same_run_again_is_fine_and_another_of_its_name_is_not(scripted_run: Path, board: Path) -> None:
    (file,) = submit(scripted_run, board, "mine")
    before = file.read_bytes()
    submit(scripted_run, board, "mine")
    assert file.read_bytes() == before
    scores = read_scores(file)
    write_scores(file, replace(scores, manifest={**scores.manifest, "config_hash": "another"}))
    with pytest.raises(UserError, match="another run's result"):
        submit(scripted_run, board, "mine")


def test_what_is_not_finished_or_no_run_is_refused(scripted_run: Path, board: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scripted_run, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["sessions"][-1]["ended"] = "stopped"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"not finished \(stopped\)"):
        submit(copy, board)
    manifest["sessions"][-1]["ended"] = "finished"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    lines = (copy / "grades.jsonl").read_text().splitlines(keepends=True)
    (copy / "grades.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"1 problems .* not graded"):
        submit(copy, board)
    with pytest.raises(UserError, match="no run and no reproduction"):
        submit(tmp_path, board)
    with pytest.raises(UserError, match="leaderboards/ folder of a checkout"):
        submit(scripted_run, tmp_path)
    for bad in ("a/b", "..", ""):
        with pytest.raises(UserError, match="no name for a result"):
            submit(scripted_run, board, bad) if bad else submit(scripted_run, board, ".")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"right": "1"}, "columns differ in length"),
        ({"right": "2" * 8}, "columns differ in length"),
        ({"outcome": "correct", "right": "0" * 8}, "solved by no trajectory"),
        ({"groups": (None,) * 8, "right": "1" + "0" * 7}, "right trajectory without an answer"),
    ],
)
def test_results_that_do_not_fit_together_are_refused(
    scripted_run: Path, board: Path, change: dict[str, object], match: str
) -> None:
    (file,) = submit(scripted_run, board)
    scores = read_scores(file)
    broken = replace(scores.problems[0], **change)  # type: ignore[arg-type]
    write_scores(file, replace(scores, problems=(broken, *scores.problems[1:])))
    with pytest.raises(UserError, match=match):
        check_file(file)


def test_a_broken_file_is_one_line(board: Path) -> None:
    file = board / "x.jsonl.zst"
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="can't read"):
        check_file(file)


def test_manifests_lose_the_places_of_a_machine() -> None:
    manifest = {
        "config": {"policy": "hf:/home/me/evolve/round4/policy?format=rstar", "reward": "ppm:/a/b/c/d/ppm"},
        "policy": {"policy": "openai:org/model@http://localhost:8000/v1", "url": "http://localhost:8000"},
        "notes": ["/data/x/y/z.json", "1/2", "a/b/c"],
    }
    assert clean_manifest(manifest) == {
        "config": {"policy": "hf:evolve/round4/policy?format=rstar", "reward": "ppm:c/d/ppm"},
        "policy": {"policy": "openai:org/model@http://localhost:8000/v1"},
        "notes": ["z.json", "1/2", "a/b/c"],
    }


def test_a_reproduction_is_submitted_whole_and_rendered(
    made_up_results: Callable[..., Path], board: Path, tmp_path: Path
) -> None:
    folder = made_up_results([load_experiment("table7", "mini")], seeds=(0,), problems=4)
    output = tmp_path / "out"
    output.mkdir()
    shutil.move(folder, output / "results")
    (output / "reproduction.json").write_text('{"schema": 1, "preset": "mini"}')
    written = submit(output, board)
    assert len(written) == 3 * 5 + 1  # three policies on five tasks, and the evolution
    table = json.loads((board / "rendered" / "mini" / "table7.json").read_text())
    assert table["rows"][-1]["cells"][0]["measured"] is not None
    assert (board / "rendered" / "mini" / "figure3.svg").exists()


def test_the_schema_is_the_codes() -> None:
    assert json.loads((BOARD / "results" / "schema.json").read_text()) == schema()


def test_every_committed_result_fits_the_schema_and_names_no_place_of_a_machine() -> None:
    for file in sorted((BOARD / "results").rglob("*.jsonl.zst")):
        if file.name != "evolution.jsonl.zst":
            check_file(file)
        text = json.dumps(next(read_lines(file)))
        assert not any(place in text for place in ("/root", "/home", "/tmp", "/work")), file


@pytest.mark.parametrize("preset", PRESETS)
def test_committed_tables_are_what_the_committed_results_render(preset: str, tmp_path: Path) -> None:
    if not (BOARD / "results" / preset).is_dir():
        assert not (BOARD / "rendered" / preset).exists()
        pytest.skip(f"no results of preset {preset} are committed")
    board = tmp_path / "leaderboards"
    (board / "results").mkdir(parents=True)
    shutil.copytree(BOARD / "results" / preset, board / "results" / preset)
    fresh, committed = render_stored(board, preset), BOARD / "rendered" / preset
    names = {one.name for one in committed.iterdir()}
    assert names == {one.name for one in fresh.iterdir()}
    assert {f"{id}.csv" for id in experiment_ids()} <= names
    for name in sorted(names):
        if name.endswith((".md", ".csv", ".tex", ".json")):  # images depend on the versions of matplotlib and freetype
            assert (fresh / name).read_bytes() == (committed / name).read_bytes(), name
