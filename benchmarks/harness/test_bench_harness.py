"""What the harness itself costs: appending to the store, reading it back, the curves of a summary, starting up.

    pytest benchmarks/harness --benchmark-enable --benchmark-only

Every figure is to be read as a ratio to the baseline of its group, which runs in the same session.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.records import Timing, read_log, search_line
from rstar_eval.solver.types import Budget, SearchResult, Step, Trajectory
from rstar_eval.stats import curve_points, maj_at_k, majority_right
from rstar_eval.store import RunStore

STEP = Step("# Step 1: add\nx = 1 + 2\n", "code", "x = 1 + 2\n", "", "ok", tokens=20)


def _line(number: int) -> dict[str, Any]:
    found = tuple(Trajectory((STEP,) * 5, "answer", str(i), None, 0, i) for i in range(8))
    return search_line("t", number, SearchResult(f"{number:016x}", 0, found, Budget()), Timing(0, 0.0, 1.0))


@pytest.mark.benchmark(group="append one search of 8 trajectories")
def test_baseline_plain_json_line(benchmark: Any, tmp_path: Path) -> None:
    record = _line(1)
    with open(tmp_path / "plain.jsonl", "w") as file:
        benchmark(lambda: file.write(json.dumps(record) + "\n"))


@pytest.mark.benchmark(group="append one search of 8 trajectories")
def test_store_append_with_fsync(benchmark: Any, tmp_path: Path) -> None:
    record = _line(1)
    with RunStore(tmp_path / "run") as store:
        benchmark(store.append_search, record)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "run"
    with RunStore(path) as store:
        for number in range(1000):
            store.append_search(_line(number))
    return path


@pytest.mark.benchmark(group="read 1000 searches")
def test_baseline_json_only(benchmark: Any, thousand: Path) -> None:
    benchmark(lambda: [json.loads(raw) for raw in (thousand / "trajectories.jsonl").open()])


@pytest.mark.benchmark(group="read 1000 searches")
def test_read_log_with_validation(benchmark: Any, thousand: Path) -> None:
    benchmark(read_log, thousand)


CLASSES = [i % 9 for i in range(64)]
RIGHT = [c == 0 for c in CLASSES]


@pytest.mark.benchmark(group="maj@k of 64 samples")
def test_baseline_one_vote(benchmark: Any) -> None:
    benchmark(majority_right, CLASSES, RIGHT)


@pytest.mark.benchmark(group="maj@k of 64 samples")
def test_maj_at_k_curve_of_7_points(benchmark: Any) -> None:
    benchmark(maj_at_k, CLASSES, RIGHT, curve_points(64))


@pytest.mark.benchmark(group="start-up")
def test_baseline_empty_python(benchmark: Any) -> None:
    benchmark(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))


@pytest.mark.benchmark(group="start-up")
def test_help(benchmark: Any) -> None:
    command = [sys.executable, "-m", "rstar_eval.cli", "--help"]
    benchmark(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
