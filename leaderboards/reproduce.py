"""`rstar-eval reproduce`: from a name of a table or figure to its measured cells, doing what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rstar_eval.engine.config import LOCAL, EngineConfig
from rstar_eval.errors import UserError
from rstar_eval.leaderboards.costs import make_plan
from rstar_eval.leaderboards.curves import make_curves
from rstar_eval.leaderboards.evolution import Evolution, read_evolution
from rstar_eval.leaderboards.experiments import Experiment, experiment_ids, load_experiment, load_preset
from rstar_eval.leaderboards.figures import draw, load_matplotlib
from rstar_eval.leaderboards.measure import Measurement, Needed, needed, parse_only
from rstar_eval.leaderboards.models import DONE, Models, NotHere
from rstar_eval.leaderboards.render import files, latex_document, print_table
from rstar_eval.leaderboards.results import Results, write_evolution
from rstar_eval.leaderboards.tables import Table, make_table
from rstar_eval.training.evolve_jobs import Job, accelerate_config, accelerate_launcher, run_jobs

if TYPE_CHECKING:
    from rich.console import Console

MARK = "reproduction.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a table or figure (or "all") at a preset, into a folder.

    rounds: of self-evolution. seeds: None: those of the evolutions given, else the preset's. only: a cell. evolve:
    folders of evolutions to use; control: of their controls. limit: problems of each task. models, data: specs and
    training files by name. settings: of evolutions that are still to be made. render_only: nothing is run. where: what
    does the searches. accelerate: how the trainings of evolutions are launched.
    """

    what: str
    preset: str
    output: Path
    rounds: int = 4
    seeds: tuple[int, ...] | None = None
    only: str | None = None
    evolve: tuple[Path, ...] = ()
    control: tuple[Path, ...] = ()
    limit: int | None = None
    workers: int = 2
    where: EngineConfig = LOCAL
    accelerate: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Path] = field(default_factory=dict)
    data_dir: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    render_only: bool = False
    dry_run: bool = False


def reproduce(request: Request, console: Console) -> None:
    """Do what `request` asks and print what came of it. UserError for what the user can mend."""
    ids = experiment_ids() if request.what == "all" else (request.what,)
    preset = load_preset(request.preset)
    experiments = [load_experiment(one, request.preset) for one in ids]
    only = parse_only(request.only, experiments)
    _check(request)
    given, controls = (_by_seed(folders, request.rounds) for folders in (request.evolve, request.control))
    seeds = request.seeds or tuple(sorted(given)) or preset.seeds
    own = {seed: request.output / "evolve" / f"seed{seed}" for seed in seeds if seed not in given}
    models = Models(
        preset, request.output, _finished(given, own, request.rounds), controls, request.models, request.data,
        request.rounds,
    )  # fmt: skip
    measurement = Measurement(models, request.limit, request.data_dir, request.workers, request.where)
    wanted = needed(experiments, models, seeds, only)
    to_evolve = [
        seed for seed in seeds if seed not in models.evolutions and _evolves(wanted, experiments, models, seed)
    ]
    if request.dry_run:
        for text in make_plan(experiments, wanted, measurement, to_evolve).lines:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    if not request.render_only:
        summary = make_plan(experiments, wanted, measurement, to_evolve).lines[-1]
        console.print(f"{summary} (the whole plan: --dry-run)", markup=False, highlight=False, soft_wrap=True)
    if any(one.kind == "figure" for one in experiments):
        load_matplotlib()  # said before hours of measurement, not after them
    if not request.render_only:
        _begin(request)
        if request.preset == "mini":
            for seed in to_evolve:
                _evolve(own[seed], seed, request, console)
            if to_evolve:
                models = replace(models, evolutions=_finished(given, own, request.rounds))
                measurement = Measurement(models, request.limit, request.data_dir, request.workers, request.where)
                wanted = needed(experiments, models, seeds, only)
        _run(wanted, measurement, request, console)
    results = Results(request.output / "results", preset, request.limit)
    folder = request.output / "rendered"
    tables = render(experiments, results, folder)
    if len(experiments) == 1:
        if tables:
            print_table(tables[0], console)
        else:
            text = (folder / f"{experiments[0].id}.md").read_text(encoding="utf-8")
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"tables and figures: {folder}", markup=False, highlight=False, soft_wrap=True)


def render(experiments: Sequence[Experiment], results: Results, folder: Path) -> list[Table]:
    """Write every form of the tables and figures that `results` make into `folder`; return the tables."""
    tables = []
    folder.mkdir(parents=True, exist_ok=True)
    for experiment in experiments:
        if experiment.kind == "table":
            tables.append(make_table(experiment, results))
            made = {name: text.encode() for name, text in files(tables[-1]).items()}
        else:
            made = draw_figure(experiment, results)
        for name, content in made.items():
            (folder / name).write_bytes(content)
    names = [one.stem for one in sorted(folder.glob("table*.tex")) if one.stem != "tables"]
    names.sort(key=lambda name: int(name.removeprefix("table")))
    (folder / "tables.tex").write_text(latex_document(names), encoding="utf-8")
    return tables


def draw_figure(experiment: Experiment, results: Results) -> dict[str, bytes]:
    """Return every file of a figure by name."""
    return draw(make_table(experiment, results) if experiment.number == 5 else make_curves(experiment, results))


def _check(request: Request) -> None:
    accelerate_config(request.accelerate)
    for what, value in (("rounds", request.rounds), ("workers", request.workers), ("limit", request.limit)):
        if value is not None and value < 1:
            raise UserError(f"{what} is {value}", "give at least 1")
    unknown = [name for name in request.models if name not in load_preset(request.preset).models]
    if unknown:
        from rstar_eval.errors import nearest

        known = load_preset(request.preset).models
        raise UserError(f"preset {request.preset} has no model {unknown[0]!r}", nearest(unknown[0], known))


def _by_seed(folders: Sequence[Path], rounds: int) -> dict[int, Evolution]:
    found = {one.seed: one for one in (read_evolution(folder, rounds) for folder in folders)}
    if len(found) < len(folders):
        raise UserError("two of the evolutions have the same seed", "give one folder a seed")
    return found


def _finished(given: Mapping[int, Evolution], own: Mapping[int, Path], rounds: int) -> dict[int, Evolution]:
    """Return the evolutions that are given, and those of this reproduction that have come to their end."""
    found = dict(given)
    for seed, folder in own.items():
        state = folder / "state.json"
        if state.exists() and f"round{rounds}/judges" in json.loads(state.read_text(encoding="utf-8"))["stages"]:
            found[seed] = read_evolution(folder, rounds)
    return found


def _evolves(wanted: Needed, experiments: Sequence[Experiment], models: Models, seed: int) -> bool:
    """Return whether anything that is asked for comes from an evolution of this seed."""
    if any(row.source is not None and row.source.solved for one in experiments for row in one.rows):
        return True
    return any(models.needs_evolution(name) for at, name in wanted.models if at == seed)


def _begin(request: Request) -> None:
    """Mark the output folder as a reproduction's. UserError if it is full of something else."""
    mark = request.output / MARK
    if not mark.exists():
        if request.output.exists() and any(request.output.iterdir()):
            raise UserError(
                f"{str(request.output)!r} is not empty and holds no reproduction", "give a new folder with --output"
            )
        request.output.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps({"schema": 1, "preset": request.preset}) + "\n", encoding="utf-8")
    found = json.loads(mark.read_text(encoding="utf-8"))
    if found.get("preset") != request.preset:
        raise UserError(
            f"{str(request.output)!r} is a reproduction at preset {found.get('preset')}", "give another --output"
        )


def _evolve(folder: Path, seed: int, request: Request, console: Console) -> None:
    from rstar_eval.training.evolve_command import evolve_command

    console.print(f"evolution of seed {seed}, {request.rounds} rounds", highlight=False)
    settings = {"workers": request.workers, **request.settings}
    evolve_command(
        request.preset, folder, request.rounds, seed, settings, None, False, console, request.where, request.accelerate
    )


def _run(wanted: Needed, measurement: Measurement, request: Request, console: Console) -> None:
    """Train and run what is missing, and store the results."""
    models, output = measurement.models, measurement.output
    seeds = "-".join(str(seed) for seed in sorted({run.seed for run in wanted.runs}))
    jobs = output / "jobs" / f"seeds-{seeds}"  # so that the seeds of one folder can be measured by several processes
    steps = dict.fromkeys((seed, step) for seed, name in wanted.models for step in models.trainings(name))
    depth = {step: len(models.trainings(step[1])) for step in steps}
    for level in sorted(set(depth.values())):
        trainings = []
        for seed, name in (step for step in steps if depth[step] == level):
            if (models.trained(name, seed) / DONE).exists():
                continue
            try:
                trainings.append(_absolute(models.training_job(name, seed)))
            except NotHere as error:
                console.print(f"{name}: not trained: {error}", markup=False, highlight=False, soft_wrap=True)
        if trainings:
            names = ", ".join(job.name for job in trainings)
            console.print(f"training: {names}", markup=False, highlight=False, soft_wrap=True)
            launched = accelerate_config(request.accelerate)
            if launched is not None:  # each takes all of the machine's devices
                trainings = [replace(one, launcher=accelerate_launcher(launched)) for one in trainings]
            run_jobs(jobs, trainings, request.workers if launched is None else 1)
    for evolution in models.evolutions.values():
        write_evolution(output / "results", evolution)
    missing = [run for run, judges in wanted.runs.items() if measurement.stored(run, judges) is None]
    blocked = {run: why for run in missing if (why := measurement.blocked(run))}
    for seed, name in dict.fromkeys((run.seed, name) for run, judges in wanted.runs.items() for name in judges):
        try:
            models.reward(name, seed)
            models.check_trained(name, seed)
        except NotHere as error:
            console.print(f"not scored by {name}: {error}", markup=False, highlight=False, soft_wrap=True)
    for why in dict.fromkeys(blocked.values()):
        count = sum(one == why for one in blocked.values())
        console.print(f"not run: {count} runs: {why}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"runs: {len(wanted.runs)}, stored {len(wanted.runs) - len(missing)}, to do {len(missing) - len(blocked)}"
    )
    cost = measurement.do(wanted, jobs)
    if cost is not None:
        console.print(f"measured in {cost.seconds:.0f} s ({cost.job_seconds:.0f} s of workers)", highlight=False)


def _absolute(job: Job) -> Job:
    paths = {key: str(Path(job.data[key]).resolve()) for key in ("rows", "output")}
    base = job.data["base"]
    return replace(job, data={**job.data, **paths, "base": str(Path(base).resolve()) if Path(base).exists() else base})
