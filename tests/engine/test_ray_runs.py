"""Whole runs on a Ray of this machine: what they store is what the local engine stores, whatever happens to workers.

Each starts Ray, which takes seconds: slow."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.evaluation import Outcome, prepare, run_config, run_problems
from rstar_eval.problem import Problem
from rstar_eval.progress import Silent
from rstar_eval.records import comparable
from rstar_eval.serial import line
from rstar_eval.store import GRADES, TRAJECTORIES, folders, read_lines
from rstar_eval.trees import read_trees

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rstar-eval[ray]'")
pytestmark = pytest.mark.slow
BASE = {
    "tasks": "mini_math", "policy": "scripted", "rollouts": 4, "trees": 2, "limit": 24, "seed": 3, "candidates": 3,
    "concurrency": 4,
}  # fmt: skip
RAY = {"engine": "ray", "workers": 2}
OPEN = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""The surroundings of a cluster that asks for no token."""


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.searches = 0
        self.on_search: Callable[[int], None] = lambda count: None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def search_done(self, tokens: int) -> None:
        self.searches += 1
        self.on_search(self.searches)


def run(path: Path, progress: Any = None, **settings: Any) -> Outcome:
    return run_config(build_config(BASE, settings), path, progress or Silent())


def stored(path: Path) -> dict[str, Any]:
    """Everything that a run holds, as bytes by key, without what no two runs share (times, CPU seconds)."""
    searches = [comparable(one) for one in read_lines(path, TRAJECTORIES)]
    grades = list(read_lines(path, GRADES))
    by_key = {(one["problem"], one["tree"]): line(one) for one in searches}
    by_problem = {one["problem"]: line(one) for one in grades}
    assert len(by_key) == len(searches), "a search was stored twice"
    assert len(by_problem) == len(grades), "a grade was stored twice"
    return {"searches": by_key, "grades": by_problem, "trees": trees(path)}


def trees(path: Path) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for tree in read_trees(path):
        assert (tree.problem, tree.tree) not in found, "a tree was stored twice"
        found[(tree.problem, tree.tree)] = line(tree.data)
    return found


def rays() -> list[str]:
    """Ray's processes on this machine that belong to this session of the tests."""
    found = subprocess.run(["pgrep", "-af", "raylet|gcs_server|ray::"], capture_output=True, text=True).stdout
    return found.splitlines()


def command_line(output: Path, policy: str, **more: Any) -> subprocess.Popen[str]:
    """Start the command with Ray in a process group of its own."""
    given = {**BASE, **RAY, "keep_trees": "true", **more}
    options = [f"--set={key}={value}" for key, value in given.items() if value is not None]
    command = [sys.executable, "-m", "rstar_eval.cli", "--output", str(output), "--json", *options, "--policy", policy]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=OPEN if "ray_address" in more else None,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for_searches(output: Path, wanted: int) -> None:
    deadline = time.monotonic() + 120
    while sum(1 for _ in read_lines(output, TRAJECTORIES)) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_ray_left() -> Iterator[None]:
    before = set(rays())
    yield
    deadline = time.monotonic() + 20
    while (left := set(rays()) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("calm") / "run"
    run(path, keep_trees=True)
    return stored(path)


def test_two_workers_store_what_one_process_stores_byte_for_byte(tmp_path: Path, calm: dict[str, Any]) -> None:
    progress = Notes()
    outcome = run(tmp_path / "run", progress, keep_trees=True, **RAY)
    assert not outcome.set_aside
    assert stored(tmp_path / "run") == calm
    assert [one.name for one in folders(tmp_path / "run")[1:]] == ["w000", "w001"]
    session = outcome.summary.manifest["sessions"][-1]["engine"]
    assert session["engine"] == "ray"
    assert sum(one["searches"] for one in session["workers"].values()) == 48
    # The same command again finds everything done, and another engine goes on where this one stopped.
    again = Notes()
    run(tmp_path / "run", again, keep_trees=True)
    assert again.searches == 0


def test_executor_workers_give_the_same(tmp_path: Path, calm: dict[str, Any]) -> None:
    outcome = run(tmp_path / "run", keep_trees=True, engine="ray", workers=1, executor_workers=1)
    assert stored(tmp_path / "run") == calm
    assert outcome.summary.manifest["sessions"][-1]["executor"]["hosts"] == 1


class Killer(Notes):
    """Kills a worker's process each time that so many searches are done."""

    def __init__(self, moments: list[int]) -> None:
        super().__init__()
        self.moments, self.kills, self.on_search = moments, 0, self.kill

    def kill(self, count: int) -> None:
        if self.moments and count >= self.moments[0]:
            victims = [int(one.split()[0]) for one in rays() if "ray::SearchHost" in one]
            if victims:  # else all are starting: the next search is soon enough
                self.moments.pop(0)
                os.kill(random.Random(count).choice(victims), signal.SIGKILL)
                self.kills += 1


def test_workers_killed_at_random_moments_change_nothing(tmp_path: Path, calm: dict[str, Any]) -> None:
    progress = Killer([5, 15, 30])
    outcome = run(tmp_path / "run", progress, keep_trees=True, policy="scripted?delay=0.02", **RAY)
    assert progress.kills == 3
    assert not outcome.set_aside
    engine = outcome.summary.manifest["sessions"][-1]["engine"]
    assert engine["lost"] == 3
    assert engine["retried"] >= 3
    assert stored(tmp_path / "run") == calm


def test_a_worker_killed_three_times_in_500_problems_changes_nothing(tmp_path: Path) -> None:
    wide = {"limit": 500, "trees": 1, "rollouts": 2, "candidates": 2}
    run(tmp_path / "calm", **wide)
    progress = Killer([60, 200, 350])
    outcome = run(tmp_path / "killed", progress, **wide, **RAY)
    assert progress.kills == 3
    assert not outcome.set_aside
    assert outcome.summary.tasks[0].n == 500
    assert outcome.summary.manifest["sessions"][-1]["engine"]["lost"] == 3
    assert stored(tmp_path / "killed") == stored(tmp_path / "calm")


def deadly_outcomes() -> Callable[[Problem], Any]:
    """In a worker: the problem with index 5 kills the process that is told of its answers."""

    def outcome_of(problem: Problem) -> Any:
        async def outcome(answer: str) -> bool:
            if problem.index == 5:
                os._exit(9)
            await asyncio.sleep(0)
            return False

        return outcome

    return outcome_of


def test_a_problem_that_kills_every_worker_is_set_aside_and_reported(tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    job = prepare(build_config(BASE, {"trees": 1, "limit": 12, **RAY}), tmp_path / "run")
    progress = Notes()
    outcome = run_problems(job.config, job.tasks, job.data, tmp_path / "run", progress, deadly_outcomes)
    (aside,) = outcome.set_aside
    assert (aside.index, aside.tries) == (5, 3)
    assert outcome.summary.tasks[0].n == 11
    assert outcome.summary.manifest["sessions"][-1]["set_aside"][0]["index"] == 5
    assert any("set aside: mini_math/5" in note for note in progress.notes)


def node(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a machine of a cluster, as `ray start` does: all of them are this one."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--object-store-memory", "80000000"]
    return subprocess.Popen([*command, *arguments], env=OPEN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_raylet(machine: subprocess.Popen[bytes]) -> None:
    found = subprocess.run(["pgrep", "-P", str(machine.pid), "-f", "raylet/raylet"], capture_output=True, text=True)
    for one in found.stdout.split():
        os.kill(int(one), signal.SIGKILL)


def test_workers_come_and_go_with_the_clusters_machines(tmp_path: Path, calm: dict[str, Any]) -> None:
    output, address = tmp_path / "run", f"127.0.0.1:{free_port()}"
    machines = [node("--head", "--port", address.split(":")[1], "--num-cpus", "0", "--include-dashboard", "false")]
    try:
        time.sleep(8)
        machines.append(node("--address", address, "--num-cpus", "1"))
        process = command_line(output, "scripted?delay=0.5", workers=None, ray_address=address)
        wait_for_searches(output, 4)
        machines.append(node("--address", address, "--num-cpus", "1"))
        wait_for_searches(output / "segments" / "w001", 2)
        kill_raylet(machines[1])
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    finally:
        for machine in reversed(machines):
            machine.terminate()
        for machine in machines:
            machine.wait(30)
    engine = json.loads((output / "manifest.json").read_text())["sessions"][-1]["engine"]
    assert engine["joined"] >= 2
    assert engine["lost"] >= 1
    assert stored(output) == calm


def test_a_killed_raylet_ends_the_run_and_the_same_command_continues(tmp_path: Path, calm: dict[str, Any]) -> None:
    before = set(rays())
    output = tmp_path / "run"
    process = command_line(output, "scripted?delay=0.1")
    wait_for_searches(output, 5)
    for one in set(rays()) - before:
        if "raylet/raylet" in one:
            os.kill(int(one.split()[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0, errors
    run(output, keep_trees=True, **RAY)
    assert stored(output) == calm


def test_a_killed_driver_takes_its_ray_with_it_and_the_same_command_continues(
    tmp_path: Path, calm: dict[str, Any]
) -> None:
    output = tmp_path / "run"
    process = command_line(output, "scripted?delay=0.1")
    wait_for_searches(output, 5)
    process.kill()
    process.communicate(timeout=60)
    run(output, keep_trees=True, **RAY)
    assert stored(output) == calm


def test_a_model_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        run(tmp_path / "run", policy="hf:nowhere", **RAY)
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Ray cluster at '127"):
        run(tmp_path / "run", engine="ray", ray_address="127.0.0.1:9")


def test_a_machine_without_room_for_a_worker_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no room for a worker, which asks 1 CPU and 4 GPU"):
        run(tmp_path / "run", gpus_per_worker=4.0, **RAY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly_and_the_same_command_continues(
    tmp_path: Path, calm: dict[str, Any], number: signal.Signals
) -> None:
    output = tmp_path / "run"
    process = command_line(output, "scripted?delay=0.1")
    wait_for_searches(output, 5)
    os.killpg(process.pid, number)  # as a terminal's Ctrl-C does: all processes of the group
    text, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command continues" in errors
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["sessions"][-1]["ended"] == "stopped"
    assert manifest["sessions"][-1]["cut_off"]["searches"] > 0
    process = command_line(output, "scripted")
    text, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert json.loads(text.splitlines()[-1])["tasks"]["mini_math"]["n"] == 24
    assert stored(output) == calm
