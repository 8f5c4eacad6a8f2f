"""One job of a self-evolution in a process of its own: a shard of a search, or a training.

    python -m rstar_eval.training.evolve_worker JOB.json

The parent keeps the job's standard input open; when that closes (the parent was killed), the job ends at once, so that
a resumed evolution never meets a leftover of the last one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.problem import Problem
from rstar_eval.serial import from_data
from rstar_eval.training.outcomes import judged_outcomes


def main(job_file: Path, kinds: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
    """Do the job in `job_file`, of one of the `kinds`, and write its cost beside it, as NAME.done.json."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    began = time.monotonic()
    kinds[job["job"]](job)
    if os.environ.get("RANK", "0") != "0":  # the first process of the same training tells
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    cost = {"seconds": round(time.monotonic() - began, 1), "peak_mb": round(peak), "processes": processes}
    write_json(job_file.with_suffix(".done.json"), cost)


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_problems(path: Path) -> list[Problem]:
    """Read problems from JSON lines."""
    with open(path, encoding="utf-8") as file:
        return [from_data(Problem, json.loads(line), str(path)) for line in file]


def _search(job: dict[str, Any]) -> None:
    """Do the parts of the job's shards of each search, one after the other."""
    for run in job["runs"]:
        for shard in job["mine"]:
            _search_shard(run, shard, job["shards"])


def _search_shard(run: dict[str, Any], shard: int, shards: int) -> None:
    """Search the problems of a shard. With `training` the searches are told the outcome of their answers."""
    from rstar_eval.evaluation import run_problems
    from rstar_eval.runner import TaskRun

    problems = read_problems(Path(run["problems"]))
    if run["only"] is not None:
        wanted = set(run["only"])
        problems = [problem for problem in problems if problem.id in wanted]
    config = from_data(RunConfig, {**run["config"], "tasks": [run["task"]]}, "job")
    source = {"kind": "evolve", "sha256": run["sha256"]}
    data = {run["task"]: {"source": source, "problems": len(problems), "errata": 0}}
    tasks = [TaskRun(run["task"], tuple(problems[shard::shards]))]
    outcomes = judged_outcomes if run["training"] else None
    store = Path(run["folder"]) / f"shard{shard}"
    if run_problems(config, tasks, data, store, LogProgress(), outcomes).stopped:
        raise KeyboardInterrupt


def _train(job: dict[str, Any]) -> None:
    """Train one model on the rows of a data file."""
    import torch

    from rstar_eval.training.datasets import read_rows
    from rstar_eval.training.train import TrainConfig, train

    torch.set_num_threads(job["threads"])
    rows = read_rows(Path(job["rows"]), job["rows_kind"])
    config = from_data(TrainConfig, job["config"], "job")
    train(job["kind"], rows, Path(job["base"]), Path(job["output"]), replace(config), facts=job["facts"])


_JOBS: dict[str, Callable[[dict[str, Any]], None]] = {"search": _search, "train": _train}


class LogProgress:
    """Progress as lines of a log: one for each fifty problems, and all notes."""

    def __init__(self) -> None:
        self.total = self.done = self.right = self.tokens = 0
        self.began = time.monotonic()

    def task_started(self, task: str, total: int, done: int, correct: int) -> None:
        """A task begins."""
        self.total, self.done, self.right = total, done, correct
        print(f"{task}: {done} of {total} problems are stored", flush=True)

    def search_done(self, tokens: int) -> None:
        """A search ended."""
        self.tokens += tokens

    def problem_done(self, outcome: str) -> None:
        """A problem was graded."""
        self.done += 1
        self.right += outcome == "correct"
        if self.done % 50 == 0:
            rate = self.tokens / (time.monotonic() - self.began)
            print(f"{self.done} of {self.total}, right {self.right}, {rate:.0f} tokens/s", flush=True)

    def note(self, text: str) -> None:
        """Something that the user should know."""
        print(text, flush=True)

    def task_ended(self) -> None:
        """The problems are done."""


def _end_with_parent() -> None:
    """End this process when its standard input closes."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def work(kinds: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
    """Be the worker of the job file named on the command line: a user's mistake is one line and exit code 2."""
    from rstar_eval.errors import UserError

    _end_with_parent()
    try:
        main(Path(sys.argv[1]), kinds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    work(_JOBS)
