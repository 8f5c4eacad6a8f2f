"""Judging stored solutions: the scores that a reward model gives to a run's trajectories."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_eval.engine.config import LOCAL, EngineConfig
from rstar_eval.engine.local import model_folder

AT_ONCE = 32
"""Problems whose solutions are scored at once, so that batches are full."""

Texts = Mapping[str, Sequence[str | None]]
"""Of each problem the text of every trajectory (None: it has no answer)."""


def judge_run(
    run: Path, task: str, spec: str, file: Path, data_dir: str | None = None, where: EngineConfig = LOCAL
) -> None:
    """Score every answered solution of a run with the reward model `spec` and write the scores to `file`: a header with
    the model's description and the run's hash, then a line a problem with one score a trajectory (null: no answer).

    With a distributed engine the scoring is done on a machine of the cluster that has what a worker asks for.
    """
    from rstar_eval.leaderboards.scores import write_lines
    from rstar_eval.records import read_log
    from rstar_eval.store import read_manifest
    from rstar_eval.tasks import load_task

    manifest, log = read_manifest(run), read_log(run)
    questions = {one.id: one.text for one in load_task(task, data_dir=data_dir and Path(data_dir)).problems}
    texts: dict[str, list[str | None]] = {}
    for key in sorted(log.searches):
        if key[0] == task:
            texts.setdefault(key[1], []).extend(
                "".join(step.text for step in one.steps) if one.answer is not None else None
                for one in log.searches[key].trajectories
            )
    asked = {problem: questions[problem] for problem in texts}
    if where.distributed:
        from rstar_eval.engine import cluster

        described, rows = cluster.call(where, score_solutions, str(Path.cwd()), spec, asked, texts)
    else:
        described, rows = score_solutions(str(Path.cwd()), spec, asked, texts)
    head = {"schema": 1, "kind": "judge", "reward": described, "run": manifest["config_hash"]}
    write_lines(file, [head, *rows])


def score_solutions(
    folder: str, spec: str, questions: Mapping[str, str], texts: Texts
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the description of the reward model `spec` and a row a problem: `problem` and its `scores`. Relative paths
    in the spec start from `folder`."""
    model_folder(folder)
    return asyncio.run(_score(spec, questions, texts))


async def _score(spec: str, questions: Mapping[str, str], texts: Texts) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from rstar_eval.solver.reward import make_reward

    reward = await make_reward(spec)
    limit = asyncio.Semaphore(AT_ONCE)

    async def score(problem: str, given: Sequence[str | None]) -> dict[str, Any]:
        distinct = list(dict.fromkeys(text for text in given if text is not None))
        async with limit:
            values = await reward.score(questions[problem], distinct) if distinct else []
        of = dict(zip(distinct, values, strict=True))
        return {"problem": problem, "scores": [None if text is None else of[text] for text in given]}

    try:
        rows = await asyncio.gather(*(score(problem, given) for problem, given in texts.items()))
        return dict(reward.describe()), list(rows)
    finally:
        await reward.close()
