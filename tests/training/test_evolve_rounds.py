"""Whole rounds of self-evolution with the shipped base model: figures, determinism, kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from rstar_eval.embedded import checkpoint, checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("r0" not in checkpoints(), reason="the package holds no embedded base (embedded/r0)"),
]

TINY = {
    "plans.0.fresh": "{'1': 10, '2': 6}", "plans.1.fresh": "{}", "plans.2.fresh": "{}", "plans.3.fresh": "{}",
    "final.fresh": "{'1': 4, '2': 3}", "final.steps": "3",
    "sft.max_steps": "6", "ppm.max_steps": "4",
    "sft.save_steps": "2", "ppm.save_steps": "2", "greedy_limit": "10",
    "system2_limit": "4", "workers": "1",
}  # fmt: skip


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a tiny evolution of one round in a process group of its own."""
    chosen = {**TINY, "base": str(checkpoint("r0"))}
    settings = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        "-m",
        "rstar_eval.cli",
        "evolve",
        "--output",
        str(folder),
        "--rounds",
        "1",
        "--seed",
        "3",
    ]
    return subprocess.Popen([*command, *settings], start_new_session=True, stdout=subprocess.DEVNULL)


def outcome(folder: Path) -> dict[str, object]:
    """What must not depend on interruptions: data sets by hash, weights by hash, and all figures but times."""
    stages = json.loads((folder / "state.json").read_text())["stages"]
    round1, final = stages["round1/evaluate"], stages["round1/final"]
    weights = {
        name: json.loads((folder / name / "training.json").read_text())["metrics"]
        for name in ("round1/policy", "round1/ppm", "round1/judges/ppm", "round1/judges/pqm", "round1/judges/orm")
    }
    return {
        "data": stages["round1/data"]["sha256"], "pool": stages["round1/data"]["pool"], "gate": stages["round1/gate"],
        "evaluate": {key: round1[key] for key in ("pass1", "majority", "system2")}, "trained": weights,
        "final": {key: final[key] for key in ("rows", "pool", "tokens")}, "judged": stages["round1/judges"]["system2"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evolve") / "whole"
    assert start(folder).wait() == 0
    return folder


def test_a_round_gives_data_models_figures_and_a_summary(undisturbed: Path) -> None:
    state = json.loads((undisturbed / "state.json").read_text())["stages"]
    assert state["round1/data"]["rows"]["sft"] > 0
    assert state["round1/data"]["rows"]["pairs"] > 0
    for model in ("policy", "ppm", "judges/orm", "judges/pqm", "judges/ppm"):
        assert (undisturbed / "round1" / model / "model.safetensors").exists()
    pairs = [(undisturbed / "round1" / part / "pairs.jsonl").read_text() for part in ("data", "final/data", "judges")]
    assert set(pairs[2].splitlines()) == set(pairs[0].splitlines()) | set(pairs[1].splitlines())
    assert state["round1/final"]["problems"] == 7
    assert state["round1/judges"]["system2"]["n"] == 4
    summary = (undisturbed / "summary.md").read_text()
    assert "| 0 |" in summary
    assert "| 1 |" in summary
    assert state["round1/evaluate"]["system2"]["n"] == 4
    assert state["round1/search"]["tokens"] > 0
    assert state["round1/search"]["peak_mb"] > 100


def signature(folder: Path) -> set[tuple[str, int]]:
    """Every file of a folder with its size: changes whenever something is stored."""
    found = set()
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file may go while we look
            found.add((str(file), file.stat().st_size))
    return found


def test_killed_ten_times_it_ends_with_the_same_data_and_figures(undisturbed: Path, tmp_path: Path) -> None:
    folder, rng = tmp_path / "killed", Random(4)
    for _ in range(10):
        before, process = signature(folder), start(folder)
        while signature(folder) == before and process.poll() is None:  # each time it must get a little further
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 6))
        assert process.poll() is None, "it ended before it was killed ten times"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(folder).wait() == 0
    assert outcome(folder) == outcome(undisturbed)


def test_the_same_command_on_a_finished_evolution_does_nothing(undisturbed: Path) -> None:
    before = (undisturbed / "state.json").read_bytes()
    assert start(undisturbed).wait() == 0
    assert (undisturbed / "state.json").read_bytes() == before
