"""Killed with SIGKILL at random moments and started again, a run ends with the records of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines

ARGUMENTS = ["--policy", "scripted?delay=0.03", "--task", "mini_math", "--rollouts", "4", "--trees", "2", "--seed", "5"]


def _start(output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rstar_eval.cli", *ARGUMENTS, "--output", str(output), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _finish(output: Path, *more: str) -> str:
    process = _start(output, *more)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    return text


def _records(output: Path) -> dict[str, dict[object, object]]:
    searches = [comparable(one) for one in read_lines(output, TRAJECTORIES)]
    grades = list(read_lines(output, GRADES))
    by_key = {(one["problem"], one["tree"]): one for one in searches}
    by_problem = {one["problem"]: one for one in grades}
    assert len(by_key) == len(searches), "a search was stored twice"
    assert len(by_problem) == len(grades), "a grade was stored twice"
    return {"searches": dict(by_key), "grades": dict(by_problem)}


def _wait_for_searches(process: subprocess.Popen[str], output: Path, more: int) -> None:
    """Wait until this session has stored `more` searches, whatever a start takes on this machine."""
    log = output / TRAJECTORIES
    wanted = _lines(log) + more
    deadline = time.monotonic() + 60
    while process.poll() is None and _lines(log) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _kill_and_finish(tmp_path: Path, kills: int, limit: str) -> None:
    _finish(tmp_path / "calm", "--limit", limit)
    calm = _records(tmp_path / "calm")
    moments = random.Random(kills)
    output, interrupted = tmp_path / "killed", 0
    for _ in range(kills):
        process = _start(output, "--limit", limit)
        _wait_for_searches(process, output, moments.randint(0, 6))
        time.sleep(moments.uniform(0.0, 0.1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            interrupted += 1
        process.communicate()
    _finish(output, "--limit", limit)
    assert interrupted > 0, "no kill came in time: the run is too short for this test"
    assert _records(output) == calm
    figures = [
        json.loads((tmp_path / name / "summary.json").read_text())["details"]["mini_math"]
        for name in ("calm", "killed")
    ]
    for key in ("n", "correct", "wrong", "no_answer", "grader_error", "tokens", "curve", "trajectories"):
        assert figures[0][key] == figures[1][key], key


def test_a_run_killed_twice_equals_an_undisturbed_one(tmp_path: Path) -> None:
    _kill_and_finish(tmp_path, kills=2, limit="12")


@pytest.mark.slow
def test_a_run_killed_ten_times_equals_an_undisturbed_one(tmp_path: Path) -> None:
    _kill_and_finish(tmp_path, kills=10, limit="40")


def test_a_grown_limit_continues_and_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    _finish(tmp_path / "run", "--limit", "3")
    before = _records(tmp_path / "run")
    process = _start(tmp_path / "run", "--limit", "40")
    deadline = time.monotonic() + 60
    while len(list(read_lines(tmp_path / "run", TRAJECTORIES))) < 8 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "the same command continues" in text
    _finish(tmp_path / "run", "--limit", "10")
    after = _records(tmp_path / "run")
    assert len(after["grades"]) >= 10
    for kind in ("searches", "grades"):
        for key, record in before[kind].items():
            assert after[kind][key] == record
