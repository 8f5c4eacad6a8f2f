"""Runs in trackers: what is sent and when, that a failing one ends no run, and real ones where they are installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rstar_eval import UserError, evaluate
from rstar_eval.cli import app
from rstar_eval.evaluation import Outcome
from rstar_eval.progress import Silent
from rstar_eval.trackers import TRACKERS
from rstar_eval.tracking import Status, TrackedRun, Tracking, track_stored_run

SETTINGS: dict[str, Any] = {"policy": "scripted", "strategy": "majority", "rollouts": 2, "limit": 3}


class Recorder:
    """A tracker that writes down what it is told; `fail` names the method that raises."""

    fail = ""
    made: list[Recorder] = []  # noqa: RUF012

    def __init__(self, where: str) -> None:
        self.where, self.threads = where, set[int]()
        self.runs: list[TrackedRun] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.ended: list[tuple[dict[str, float], int, list[str], Status]] = []
        Recorder.made.append(self)

    def _told(self, method: str) -> None:
        self.threads.add(threading.get_ident())
        if self.fail == method:
            raise ConnectionError(f"no {method} today")

    def start(self, run: TrackedRun) -> None:
        self._told("start")
        self.runs.append(run)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._told("log")
        self.logged.append((dict(figures), step))

    def finish(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        self._told("finish")
        assert all(file.exists() for file in files)
        self.ended.append((dict(figures), step, [file.name for file in files], status))


@pytest.fixture(autouse=True)
def _recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing_runs: None) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TRACKERS._items, "recorder", Recorder)
    monkeypatch.setattr("rstar_eval.tracking.EVERY_SECONDS", 0.0)
    Recorder.fail = ""
    Recorder.made.clear()


def _run(**changes: Any) -> tuple[Outcome, Recorder]:
    outcome = evaluate("mini_math,mini_aime", **{**SETTINGS, "track": "recorder:here", **changes})
    return outcome, Recorder.made[-1]


def test_a_tracker_gets_settings_running_figures_and_the_end() -> None:
    outcome, told = _run()
    assert (outcome.untracked, told.where) == (None, "here")
    (run,) = told.runs
    assert run.name == outcome.path.name
    assert (run.settings["strategy"], run.settings["rollouts"]) == ("majority", 2)
    assert "track" not in run.settings
    steps = [step for _, step in told.logged]
    assert steps == sorted(steps)
    assert steps[-1] == 6
    assert told.logged[0][0]["mini_math/running/done"] == 1
    ((figures, step, files, status),) = told.ended
    assert (step, status, set(files)) == (6, "finished", {"summary.json", "summary.md", "manifest.json"})
    summary = outcome.tasks["mini_math"]
    assert figures["mini_math/accuracy"] == summary.accuracy
    assert figures["mini_math/tokens"] == summary.tokens
    assert figures["mini_math/pass_at_2"] == summary.curve[-1].pass_at_k
    assert {"mini_math/maj_at_1", "mini_aime/interval_high", "mini_aime/no_answer"} <= set(figures)
    assert len(told.threads) == 1
    assert threading.get_ident() not in told.threads
    sent = json.dumps([dict(run.settings), told.logged, told.ended])
    assert "How many" not in sent  # no question leaves


def test_a_run_that_continues_is_the_same_run_and_tracking_is_no_part_of_it() -> None:
    first, told = _run()
    second, again = _run(limit=4, track="recorder:elsewhere")
    assert second.path == first.path
    assert again.runs[0].id == told.runs[0].id
    third, other = _run(rollouts=3)
    assert other.runs[0].id != told.runs[0].id
    assert "recorder" not in (third.path / "manifest.json").read_text()


@pytest.mark.parametrize("method", ["log", "finish"])
def test_a_tracker_that_fails_ends_no_run(method: str) -> None:
    Recorder.fail = method
    outcome, _ = _run()
    assert outcome.untracked == f"ConnectionError: no {method} today"
    assert outcome.tasks["mini_math"].n == 3
    assert not outcome.stopped


def test_a_tracker_that_can_t_start_is_told_before_anything_is_spent() -> None:
    Recorder.fail = "start"
    with pytest.raises(UserError, match=r"can't track the run with 'recorder:here': no start today"):
        _run()
    assert not Path("runs").exists()


def test_a_run_that_fails_is_failed_there_too() -> None:
    with pytest.raises(UserError, match="no/where"):
        _run(reward="ppm:no/where")
    assert [status for *_, status in Recorder.made[-1].ended] == ["failed"]


def test_the_note_about_a_failing_tracker_comes_once(tmp_path: Path) -> None:
    import asyncio

    notes: list[str] = []

    class Notes(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    async def told() -> None:
        Recorder.fail = "log"
        tracking = Tracking("recorder", Recorder(""), tmp_path, {})
        await tracking.start()
        watched = tracking.watch(Notes())
        watched.task_started("t", 3, 0, 0)
        for _ in range(3):
            watched.problem_done("correct")
            await asyncio.sleep(0.02)
        await tracking.close()

    asyncio.run(told())
    assert notes == ["tracking failed, the run goes on: ConnectionError: no log today"]


def test_a_stored_run_can_be_sent_later() -> None:
    outcome, told = _run()
    track_stored_run("recorder:late", outcome.path)
    late = Recorder.made[-1]
    assert late.runs[0].id == told.runs[0].id
    assert late.ended == told.ended
    Recorder.fail = "finish"
    with pytest.raises(UserError, match="tracking with 'recorder' failed"):
        track_stored_run("recorder", outcome.path)
    with pytest.raises(UserError, match="no run folder"):
        track_stored_run("recorder", Path("nothing"))


def test_the_command_says_how_to_send_a_run_whose_tracking_failed() -> None:
    Recorder.fail = "finish"
    options = ["--task", "mini_math", "--policy", "scripted", "--limit", "2", "--rollouts", "2", "--output", "run"]
    result = CliRunner().invoke(app, [*options, "--track", "recorder"])
    assert isinstance(result.exception, UserError)
    assert result.exception.fix == "send it with rstar-eval export run --track recorder"
    assert Path("run", "summary.json").exists()
    Recorder.fail = ""
    sent = CliRunner().invoke(app, ["export", "run", "--track", "recorder"])
    assert (sent.exit_code, sent.output) == (0, "run -> recorder\n")
    neither = CliRunner().invoke(app, ["export", "run"])
    assert isinstance(neither.exception, UserError)


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_missing_package_is_told_with_its_mend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"{name} is not here.*pip install"):
        _run(track=name)
    assert not Path("runs").exists()


def test_mlflow_holds_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (extra track)")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    outcome, _ = _real(f"mlflow:{uri}")
    _real(f"mlflow:{uri}", limit=4)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("rstar-eval").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == outcome.path.name
    assert run.data.params["rollouts"] == "2"
    assert run.data.metrics["mini_math/n"] == 4
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {
        "summary.json", "summary.md", "manifest.json",
    }  # fmt: skip


def test_wandb_writes_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome, _ = _real("wandb:team/maths")
    assert outcome.untracked is None
    (file,) = Path().glob("wandb/offline-run-*/*.wandb")
    assert b"mini_math/accuracy" in file.read_bytes()


def test_trackio_holds_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setenv("TRACKIO_DIR", str(Path("trackio").resolve()))  # read when it is imported
    pytest.importorskip("trackio", reason="trackio is not installed")
    outcome, _ = _real("trackio:maths")
    assert outcome.untracked is None
    (file,) = Path("trackio").glob("**/maths*.db")
    with sqlite3.connect(file) as base:
        rows = [str(row) for row in base.execute("select * from metrics")]
    assert any("mini_math/accuracy" in row for row in rows)


def _real(spec: str, **changes: Any) -> tuple[Outcome, None]:
    return evaluate("mini_math", **{**SETTINGS, "track": spec, **changes}), None
