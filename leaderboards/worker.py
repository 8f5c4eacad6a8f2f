"""The job of a reproduction in its own process (training/evolve_jobs.py): runs, and the judging of their solutions.

python -m rstar_eval.leaderboards.worker JOB.json
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.serial import from_data
from rstar_eval.training.evolve_worker import LogProgress, work

AT_ONCE = 32
"""Problems whose solutions are scored at once, so that batches are full."""


def measure_runs(job: dict[str, Any]) -> None:
    """Do the runs of the job one after the other: each as the main job would, then its judges, then its result."""
    from rstar_eval.evaluation import run_config
    from rstar_eval.leaderboards.scores import read_lines, scores_of_run, write_scores

    for run in job["runs"]:
        print(f"{run['folder']}", flush=True)
        folder, config = Path(run["folder"]), from_data(RunConfig, run["config"], "job")
        (task,) = config.tasks
        if run_config(config, folder, LogProgress()).stopped:
            raise KeyboardInterrupt
        judges = {}
        for judge in run["judges"]:
            print(f"judged by {judge['reward']}", flush=True)
            file = Path(judge["file"])
            asyncio.run(judge_run(folder, task, judge["reward"], file, config.data_dir))
            judges[judge["name"]] = {row["problem"]: row["scores"] for row in list(read_lines(file))[1:]}
        write_scores(Path(run["result"]), scores_of_run(folder, task, judges))


async def judge_run(run: Path, task: str, spec: str, file: Path, data_dir: str | None = None) -> None:
    """Score every answered solution of a run with the reward model `spec` and write the scores to `file`: a header with
    the model's description and the run's hash, then a line a problem with one score a trajectory (null: no answer)."""
    from rstar_eval.leaderboards.scores import write_lines
    from rstar_eval.records import read_log
    from rstar_eval.solver.reward import make_reward
    from rstar_eval.solver.types import Trajectory
    from rstar_eval.store import read_manifest
    from rstar_eval.tasks import load_task

    manifest, log = read_manifest(run), read_log(run)
    questions = {one.id: one.text for one in load_task(task, data_dir=data_dir and Path(data_dir)).problems}
    paths: dict[str, list[Trajectory]] = {}
    for key in sorted(log.searches):
        if key[0] == task:
            paths.setdefault(key[1], []).extend(log.searches[key].trajectories)
    reward = await make_reward(spec)
    limit = asyncio.Semaphore(AT_ONCE)

    async def score(problem: str, found: list[Trajectory]) -> dict[str, Any]:
        texts = ["".join(step.text for step in one.steps) if one.answer is not None else None for one in found]
        distinct = list(dict.fromkeys(text for text in texts if text is not None))
        async with limit:
            values = await reward.score(questions[problem], distinct) if distinct else []
        of = dict(zip(distinct, values, strict=True))
        return {"problem": problem, "scores": [None if text is None else of[text] for text in texts]}

    try:
        rows = await asyncio.gather(*(score(problem, found) for problem, found in paths.items()))
        head = {"schema": 1, "kind": "judge", "reward": dict(reward.describe()), "run": manifest["config_hash"]}
        write_lines(file, [head, *rows])
    finally:
        await reward.close()


if __name__ == "__main__":
    work({"measure": measure_runs})
