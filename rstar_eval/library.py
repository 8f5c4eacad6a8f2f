"""The library's `evaluate`: the main job as a function. The other public functions live where their work does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig, build_config, load_preset
from rstar_eval.defaults import task_settings
from rstar_eval.evaluation import Outcome, prepare, run_job
from rstar_eval.progress import Progress, Silent
from rstar_eval.solving import outside_of_loops

Tasks = str | Path | Sequence[str | Path]
"""Names of tasks or paths of task YAMLs: one, several, or several in one text, separated by commas."""


def evaluate(
    tasks: Tasks,
    *,
    output: str | Path | None = None,
    preset: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Run the main job: `evaluate("mini_math", strategy="mcts", rollouts=8, limit=20)`.

    tasks: what to solve. output: the run's folder; without it runs/NAME, with a name made of the settings. preset:
    named settings below `settings`, which are those of the command line and the config files (policy, reward,
    strategy, rollouts, limit, ids, seed, isolation, concurrency, keep_trees, data_dir, track ...). Without a policy
    the tasks' own default is taken, as by the command. progress: what is told of the way (None: nothing).

    Returns the run's folder and figures; `outcome.tasks["mini_math"].accuracy` is a share. The same call continues
    the same run, also after a kill, and a finished one is read and not repeated. Ctrl-C (in the main thread) stops it
    and returns what is there, with `stopped` set. UserError for what the user can mend: an unknown task or setting, a
    missing extra, a folder that holds another run; in a running event loop (a notebook) too: await `evaluate_async`.
    """
    outside_of_loops("evaluate", "evaluate_async")
    config = library_config(tasks, preset, settings)
    job = prepare(config, Path(output) if output is not None else None)
    return asyncio.run(run_job(job, progress or Silent(), signals=True))


async def evaluate_async(
    tasks: Tasks,
    *,
    output: str | Path | None = None,
    preset: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Run the main job as `evaluate` does, inside of an event loop.

    Cancelling it stops the run (asyncio.CancelledError); what was finished is stored, and the same call continues.
    Signals are left to the caller. Several at once need different folders: one process writes into a folder at a time.
    """
    config = library_config(tasks, preset, settings)
    job = await asyncio.to_thread(prepare, config, Path(output) if output is not None else None)
    return await run_job(job, progress or Silent())


def library_config(tasks: Tasks, preset: str | None, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a call, as the command line would make it. UserError as `build_config`'s."""
    if isinstance(tasks, str | Path):
        names = [name.strip() for name in str(tasks).split(",") if name.strip()]
    else:
        names = [str(name) for name in tasks]
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    layers = (load_preset(preset) if preset else {}, {**plain, "tasks": names})
    return build_config(task_settings(*layers), *layers)
