"""The job of a reproduction in its own process (training/evolve_jobs.py): runs, and the judging of their solutions.

python -m rstar_eval.leaderboards.worker JOB.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.errors import BackendError
from rstar_eval.serial import from_data
from rstar_eval.training.evolve_worker import LogProgress, work


def measure_runs(job: dict[str, Any]) -> None:
    """Do the runs of the job one after the other: each as the main job would, then its judges, then its result."""
    from rstar_eval.evaluation import run_config
    from rstar_eval.leaderboards.judging import judge_run
    from rstar_eval.leaderboards.scores import read_lines, scores_of_run, write_scores

    for run in job["runs"]:
        print(f"{run['folder']}", flush=True)
        folder, config = Path(run["folder"]), from_data(RunConfig, run["config"], "job")
        (task,) = config.tasks
        outcome = run_config(config, folder, LogProgress())
        if outcome.stopped:
            raise KeyboardInterrupt
        if outcome.set_aside:
            raise BackendError(
                f"{len(outcome.set_aside)} searches of {folder} were set aside: {outcome.set_aside[0].reason}"
            )
        judges = {}
        for judge in run["judges"]:
            print(f"judged by {judge['reward']}", flush=True)
            file = Path(judge["file"])
            judge_run(folder, task, judge["reward"], file, config.data_dir, config.where)
            judges[judge["name"]] = {row["problem"]: row["scores"] for row in list(read_lines(file))[1:]}
        write_scores(Path(run["result"]), scores_of_run(folder, task, judges))


if __name__ == "__main__":
    work({"measure": measure_runs})
