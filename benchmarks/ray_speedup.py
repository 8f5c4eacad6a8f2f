"""Two Ray workers against one on a mini task: speed-up, and whether they store the same.

    python benchmarks/ray_speedup.py [--rounds 5] [--limit 50] [--rollouts 16] [--json FILE]

Runs with 1 and 2 workers take turns, each in a fresh folder with a Ray of its own; a worker has one CPU thread. The
time is that of the searching and grading: from the moment when all workers are ready to the last grade, divided by the
problems that were not done before it; starting Ray and loading models is shown apart. With --json what
`simulate_cluster.py` needs is written: every search's own time, and what the driver spent a search (CPU time of its
process, and waiting for fsync). Needs two free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rstar_eval.config import build_config
from rstar_eval.defaults import task_settings
from rstar_eval.evaluation import run_config
from rstar_eval.progress import Silent
from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines

_fsync, waited = os.fsync, [0.0]


def timed_fsync(descriptor: int) -> None:
    began = time.monotonic()
    _fsync(descriptor)
    waited[0] += time.monotonic() - began


class Clock(Silent):
    """Seconds and problems from when all workers were ready to the end, and the driver's own CPU time and fsyncs."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.began = self.seconds = self.cpu = self.fsync = 0.0
        self.problems = 0

    def note(self, text: str) -> None:
        if f"({self.workers} at work)" in text:  # the run begins with the first worker, the others may come later
            self.began, self.problems = time.monotonic(), 0

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        self.cpu, waited[0] = time.process_time(), 0.0
        self.began = max(self.began, time.monotonic())

    def problem_done(self, outcome: str) -> None:
        self.problems += 1

    def task_ended(self) -> None:
        self.seconds = time.monotonic() - self.began
        self.cpu, self.fsync = time.process_time() - self.cpu, waited[0]


def measure(settings: dict[str, Any], workers: int, folder: Path) -> dict[str, Any]:
    engine = {"engine": "ray", "workers": workers} if workers else {}
    layers = ({**settings, **engine, **({} if workers else {"ray_address": None})},)
    config = build_config(task_settings(*layers), *layers)
    clock, began = Clock(workers), time.monotonic()
    outcome = run_config(config, folder, clock)
    if outcome.stopped or outcome.set_aside:
        raise SystemExit(f"the run of {workers} workers did not come to its end")
    searches = list(read_lines(folder, TRAJECTORIES))
    stored = [comparable(one) for one in (*searches, *read_lines(folder, GRADES))]
    stored.sort(key=lambda one: (one["problem"], one.get("tree", -1)))
    return {
        "workers": workers, "seconds": clock.seconds, "around": time.monotonic() - began - clock.seconds,
        "problems": clock.problems, "searches": len(searches), "driver_cpu": clock.cpu, "driver_fsync": clock.fsync,
        "durations": [round(one["timing"]["ended"] - one["timing"]["started"], 3) for one in searches],
        "tokens": outcome.summary.tasks[0].tokens, "concurrency": config.concurrency, "stored": stored,
    }  # fmt: skip


def gap(one: Any, other: Any) -> float | None:
    """Return the largest relative difference of two results' numbers with a fraction (a network's values are rounded
    differently in other batches), or None if anything else in them differs."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / max(1.0, abs(one), abs(other))
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        one, other = list(one.values()), [other[key] for key in one]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        gaps = [gap(a, b) for a, b in zip(one, other, strict=True)]
        return None if None in gaps else max([0.0, *(each for each in gaps if each is not None)])
    return 0.0 if one == other else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Two Ray workers against one on a mini task.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", default="mini_math")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--concurrency", type=int, default=8, help="problems that a worker searches at once")
    parser.add_argument("--policy", help="default: the task's own")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="0: the local engine")
    parser.add_argument("--ray-address", help="a cluster that runs already, so that no run has to start one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.fsync = timed_fsync
    settings = {
        "tasks": given.task, "limit": given.limit, "rollouts": given.rollouts, "concurrency": given.concurrency,
        **({"policy": given.policy} if given.policy else {}),
        **({"ray_address": given.ray_address} if given.ray_address else {}),
    }  # fmt: skip
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as base:
        for number in range(given.rounds):
            for workers in given.workers:
                one = measure(settings, workers, Path(base) / f"{number}-{workers}")
                runs.append(one)
                each = [1000 * one[key] / one["searches"] for key in ("driver_cpu", "driver_fsync")]
                print(
                    f"round {number + 1}, {workers or 'no'} workers: {one['problems']} problems in "
                    f"{one['seconds']:.1f} s (and {one['around']:.1f} s around it); driver {each[0]:.1f} ms CPU, "
                    f"{each[1]:.1f} ms fsync a search",
                    flush=True,
                )
    gaps = [gap(runs[0]["stored"], one["stored"]) for one in runs]
    rates: dict[int, list[float]] = {count: [] for count in given.workers}
    for one in runs:
        rates[one["workers"]].append(one["problems"] / one["seconds"])
    first = rates[given.workers[0]]
    for count, own in rates.items():
        ratios = [a / b for a, b in zip(own, first, strict=True)]
        print(
            f"{count or 'no'} workers: median {1000 / statistics.median(own):.1f} ms a problem, "
            f"{statistics.median(ratios):.2f} times as fast as {given.workers[0]} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    known = [one for one in gaps if one is not None]
    print(
        f"the same searches and grades in {len(known)} of {len(runs)} runs; "
        f"values and votes differ by {max(known):.1g} at most (relative)"
    )
    if given.json:
        kept = [{key: value for key, value in one.items() if key != "stored"} for one in runs]
        given.json.write_text(json.dumps({"settings": settings, "runs": kept}) + "\n")


if __name__ == "__main__":
    main()
