"""Running jobs of a self-evolution in worker processes, so many at a time, and what became of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import BackendError, UserError
from rstar_eval.training.evolve_worker import write_json
from rstar_eval.training.train import TrainConfig

POLL_SECONDS, IDLE_SECONDS = 0.2, 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its name (of its files in the jobs folder), what its worker reads, the worker's module, and the Python
    arguments that launch it (none: the module by itself)."""

    name: str
    data: dict[str, Any]
    worker: str = "rstar_eval.training.evolve_worker"
    launcher: tuple[str, ...] = ()


def training_job(
    kind: str,
    rows: Path,
    base: Path,
    output: Path,
    config: TrainConfig,
    facts: Mapping[str, object],
    accelerate: Path | None = None,
) -> Job:
    """Return the job that trains a policy (kind "sft") or a reward model (ppm, pqm, orm) from the checkpoint `base` on
    the rows in a file. facts: what its card says of it. accelerate: see `accelerate_launcher`."""
    kinds = {"sft": "sft", "ppm": "pairs", "pqm": "values", "orm": "outcomes"}
    data = {
        "job": "train", "kind": kind, "rows": str(rows), "rows_kind": kinds[kind], "base": str(base),
        "output": str(output), "config": asdict(config), "threads": 1, "facts": dict(facts),
    }  # fmt: skip
    return Job(f"{output.name}-{kind}", data, launcher=() if accelerate is None else accelerate_launcher(accelerate))


@dataclass(frozen=True, slots=True)
class Cost:
    """What jobs took: wall seconds together, the sum of their own seconds, and the most memory at once, in MiB, of the
    jobs that ran side by side (an upper bound: the sum of the largest peaks)."""

    seconds: float
    job_seconds: float
    peak_mb: int

    def __add__(self, after: Cost) -> Cost:
        """Return the cost of these jobs and, when they were done, those of `after`."""
        seconds, job_seconds = self.seconds + after.seconds, self.job_seconds + after.job_seconds
        return Cost(round(seconds, 1), job_seconds, max(self.peak_mb, after.peak_mb))


def run_jobs(folder: Path, jobs: Sequence[Job], workers: int) -> Cost:
    """Run jobs in their order, `workers` at a time; their logs are NAME.log in `folder`.

    UserError or BackendError with the log's last line if one fails; the others are then ended. Interrupting ends all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    waiting, running = list(jobs), dict[str, subprocess.Popen[bytes]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[job.name] = _start(folder, job)
            for name, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[name]
                if code:
                    _failed(folder, name, code)
            time.sleep(POLL_SECONDS)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    costs = [json.loads((folder / f"{job.name}.done.json").read_text(encoding="utf-8")) for job in jobs]
    peaks = sorted((cost["peak_mb"] for cost in costs), reverse=True)[:workers]
    return Cost(round(time.monotonic() - began, 1), sum(cost["seconds"] for cost in costs), sum(peaks))


def accelerate_launcher(config: Path) -> tuple[str, ...]:
    """Return the Python arguments that launch a job by `accelerate launch` with a config file (devices, FSDP)."""
    return "-m", "accelerate.commands.launch", "--config_file", str(config)


def accelerate_config(name: str | None) -> Path | None:
    """Return the config file that `name` means: a file, or one of those that come with the package (ddp, fsdp); None
    for None. UserError if it is neither, or no config of accelerate."""
    if name is None:
        return None
    import yaml

    folder = Path(__file__).parent / "accelerate"
    known = {one.stem: one for one in sorted(folder.glob("*.yaml"))}
    path = known.get(name, Path(name))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no YAML"
        raise UserError(
            f"can't read accelerate's config {name!r}: {reason}", f"give a YAML file, or one of {', '.join(known)}"
        ) from None
    if not isinstance(data, dict) or "distributed_type" not in data:
        raise UserError(f"{name!r} is no config of accelerate", "make one with `accelerate config --config_file FILE`")
    return path.resolve()


def idle_cores() -> float:
    """Return how many of the cores that this process may use nobody uses, over the next moment."""
    import psutil

    busy: list[float] = psutil.cpu_percent(interval=IDLE_SECONDS, percpu=True)
    process = psutil.Process()
    mine = process.cpu_affinity() if hasattr(process, "cpu_affinity") else range(len(busy))  # not on macOS
    return sum(1 - busy[core] / 100 for core in mine)


def wait_policy(threads: int, idle: float) -> tuple[dict[str, str], str]:
    """Return how the threads of a training wait for each other, as environment variables, and a line that says so.

    A small model's threads meet a thousand times a second. Where there are cores for all of them they spin, else they
    sleep: a thread that waits for one that has no core would waste its own. The weights are the same bit for bit.
    """
    if idle > threads - 0.5:
        return {}, f"{threads} threads on {idle:.1f} idle cores\n"
    return {"OMP_WAIT_POLICY": "passive"}, f"{threads} threads on {idle:.1f} idle cores: waiting threads sleep\n"


def _start(folder: Path, job: Job) -> subprocess.Popen[bytes]:
    path = folder / f"{job.name}.json"
    write_json(path, job.data)
    threads = job.data.get("threads", 1)
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "0"}
    note = ""
    if threads > 1:
        policy, note = wait_policy(threads, idle_cores())
        surroundings |= policy
    with open(folder / f"{job.name}.log", "ab") as log:
        log.write(note.encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, *job.launcher, "-m", job.worker, str(path)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env=surroundings,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends its jobs
        )  # fmt: skip


def _failed(folder: Path, name: str, code: int) -> None:
    log = folder / f"{name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
    last = lines[-1].removeprefix("error: ")
    if code == 130:
        raise KeyboardInterrupt
    if code == 2:
        raise UserError(last)
    raise BackendError(f"job {name} ended with code {code}: {last}", f"see {log}; the same command continues")
