"""The runs behind the cells: which there are, what of them is stored and valid, and doing what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig, build_config, identity, load_preset
from rstar_eval.engine.config import LOCAL, EngineConfig
from rstar_eval.errors import UserError
from rstar_eval.leaderboards.experiments import Experiment, Source
from rstar_eval.leaderboards.models import Models, NotHere
from rstar_eval.leaderboards.scores import SUFFIX, RunScores, read_scores
from rstar_eval.solver.reward.logratio import REFERENCE
from rstar_eval.tasks import load_task
from rstar_eval.training.evolve_jobs import Cost, Job, run_jobs

WORKER = "rstar_eval.leaderboards.worker"


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """One run: a policy and a reward model by their canonical names, a search, a task, a seed."""

    seed: int
    policy: str
    reward: str
    search: str
    task: str

    @property
    def key(self) -> str:
        """Its place below the folders `runs`, `results` and `judges`."""
        models = f"{self.policy}+{self.reward}" if self.reward else self.policy
        return f"seed{self.seed}/{models}+{self.search}/{self.task}"


@dataclass(frozen=True, slots=True)
class Needed:
    """Everything that cells need: runs, and the judges of each."""

    runs: Mapping[Run, frozenset[str]]

    @property
    def models(self) -> list[tuple[int, str]]:
        """Every model by seed and name, sorted."""
        found = {(run.seed, name) for run in self.runs for name in (run.policy, run.reward) if name}
        return sorted(found | {(run.seed, name) for run, judges in self.runs.items() for name in judges})


def run_of(source: Source, task: str, seed: int, models: Models) -> Run:
    """Return the run that a source's figures on a task come from."""
    return run_by(source, task, seed, lambda name: models.canonical(name, seed))


def run_by(source: Source, task: str, seed: int, canonical: Callable[[str], str]) -> Run:
    """Return the run that a source's figures on a task come from, models by their canonical names."""
    reward = canonical(source.reward) if source.reward else ""
    return Run(seed, canonical(source.policy), reward, source.search, task)


def needed(experiments: Sequence[Experiment], models: Models, seeds: Sequence[int], only: Only | None = None) -> Needed:
    """Return the runs behind the cells of `experiments` (only those that `only` lets through)."""
    runs: dict[Run, set[str]] = {}
    for experiment in experiments:
        for row in experiment.rows:
            for column, task in experiment.columns.items():
                if row.source is None or not row.source.policy or not task:
                    continue
                if only is not None and not only.wants(row.id, column, task):
                    continue
                for seed in seeds:
                    judges = runs.setdefault(run_of(row.source, task, seed, models), set())
                    if row.source.judge:
                        judges.add(models.canonical(row.source.judge, seed))
    return Needed({run: frozenset(judges) for run, judges in sorted(runs.items())})


@dataclass(frozen=True, slots=True)
class Only:
    """A choice of cells: ROW, or ROW/COLUMN with the paper's column or our task."""

    row: str
    column: str = ""

    def wants(self, row: str, column: str, task: str | None) -> bool:
        """Return whether the cell is among the chosen."""
        return row == self.row and self.column in ("", column, task)


def parse_only(text: str | None, experiments: Sequence[Experiment]) -> Only | None:
    """Return the choice that `text` names. UserError if no row or column is called so."""
    if text is None:
        return None
    rows = {row.id for one in experiments for row in one.rows}
    # A row's id may hold a slash itself (figure 5).
    row, slash, column = (text, "", "") if text in rows else text.rpartition("/")
    row = row or text
    columns = {name for one in experiments for each in one.columns.items() for name in each if name}
    if row not in rows or (slash and column not in columns):
        raise UserError(
            f"no cell {text!r} in {', '.join(one.id for one in experiments)}",
            f"give ROW or ROW/COLUMN; rows: {', '.join(sorted(rows))}; columns: {', '.join(sorted(columns))}",
        )
    return Only(row, column)


class Measurement:
    """The runs of a reproduction in its folder. limit: problems of each task (None: all). where: what does the
    searches; with a distributed engine the runs are made one after the other, each with all of its workers."""

    def __init__(
        self,
        models: Models,
        limit: int | None,
        data_dir: str | None,
        workers: int,
        where: EngineConfig = LOCAL,
    ) -> None:
        self.models, self.limit, self.data_dir, self.where = models, limit, data_dir, where
        self.workers = 1 if where.distributed else workers
        self.output = models.output
        self._found: dict[str, RunScores] = {}
        self._hashes: dict[tuple[str, str], str] = {}

    def result_file(self, run: Run) -> Path:
        """Return where a run's scores are stored."""
        return self.output / "results" / (run.key + SUFFIX)

    def config(self, run: Run) -> RunConfig:
        """Return the configuration of a run. NotHere if its models are not here; UserError for settings that don't
        fit."""
        settings = dict(self.models.preset.searches[run.search])
        start = settings.pop("settings")
        base: Mapping[str, Any]
        if start == "evolution":
            if run.seed not in self.models.evolutions:
                raise NotHere(f"no evolution of seed {run.seed}")
            base = asdict(self.models.evolutions[run.seed].config.system2)
        else:
            base = _preset_values(self.models.preset.name)
        own = {
            "tasks": [run.task], "policy": self.models.policy(run.policy, run.seed), "seed": run.seed,
            "reward": self.models.reward(run.reward, run.seed) if run.reward else None,
            "limit": self.limit, "data_dir": self.data_dir,
        }  # fmt: skip
        return replace(build_config(base, settings, own), where=self.where)

    def problems(self, task: str) -> int:
        """Return how many problems of a task are asked for."""
        size = _size(task)
        return size if self.limit is None else min(self.limit, size)

    def stored(self, run: Run, judges: frozenset[str] = frozenset()) -> RunScores | None:
        """Return a run's scores if they are here, whole and valid, else None.

        UserError if they are of another configuration, data or other weights.
        """
        file = self.result_file(run)
        if run.key not in self._found:
            if not file.exists():
                return None
            self._found[run.key] = read_scores(file)
        found = self._found[run.key]
        self._check(run, found.manifest, file)
        wanted = self.problems(run.task)
        if sum(one.index < wanted for one in found.problems) < wanted:
            return None
        if any(self.judges_here(run, judges) - set(one.judges) for one in found.problems):
            return None
        return found.first(self.limit)

    def _check(self, run: Run, manifest: Mapping[str, Any], file: Path) -> None:
        try:
            config = self.config(run)
        except NotHere:  # the models are gone: nothing to compare, the result itself says what they were
            return
        skipped = {"policy", "reward", "tasks"}
        here = {key: value for key, value in identity(config).items() if key not in skipped}
        there = {key: value for key, value in manifest["config"].items() if key not in skipped}
        different = [f"{key} is {there.get(key)} there and {here.get(key)} here" for key in sorted({*here, *there})
                     if _plain(here.get(key)) != _plain(there.get(key))]  # fmt: skip
        loaded = load_task(run.task, data_dir=Path(self.data_dir) if self.data_dir else None)
        sha256 = manifest["data"][run.task]["source"].get("sha256")
        if sha256 != loaded.provenance.get("sha256"):
            different.append(f"the data of {run.task} are others")
        for kind, name in (("policy", run.policy), ("reward", run.reward)):
            described = manifest[kind] or {}
            theirs = "+".join(filter(None, (described.get("sha256"), described.get(REFERENCE))))
            if name and theirs and (ours := self._weights(name, run.seed)) and ours != theirs:
                different.append(f"the weights of {name} are others")
        if different:
            raise UserError(
                f"{str(file)!r} is of another measurement: {'; '.join(different)}",
                "give another --output, or remove that file and its folder in runs/",
            )

    def _weights(self, name: str, seed: int) -> str:
        """Return the hash of a model's weights, "" if they are not in a folder here."""
        from rstar_eval.solver.backends.hf import weights_hash

        try:
            folder = self.models.folder(name, seed)
        except NotHere:
            return ""
        key = (name, str(folder))
        if key not in self._hashes:
            parts = [part for part in (folder, folder / REFERENCE) if part.is_dir()]
            self._hashes[key] = "+".join(map(weights_hash, parts))
        return self._hashes[key]

    def judges_here(self, run: Run, judges: frozenset[str]) -> frozenset[str]:
        """Return those of a run's judges that can be used here."""
        found = set()
        for name in judges:
            try:
                self.models.reward(name, run.seed)
                self.models.check_trained(name, run.seed)
            except NotHere:  # the rows that need it are not run; the run's other rows are
                continue
            found.add(name)
        return frozenset(found)

    def blocked(self, run: Run) -> str:
        """Return why a run can't be made here ("": it can)."""
        try:
            self.config(run)
            for name in filter(None, (run.policy, run.reward)):
                self.models.check_trained(name, run.seed)
        except NotHere as error:
            return str(error)
        return ""

    def do(self, wanted: Needed, jobs: Path) -> Cost | None:
        """Make every run that can be made and is not stored, with its judges' scores and its result. What is finished
        is kept whatever happens; the same call goes on. None if there was nothing to do."""
        todo = [run for run, judges in wanted.runs.items()
                if self.stored(run, judges) is None and not self.blocked(run)]  # fmt: skip
        if not todo:
            return None
        count = min(self.workers, len(todo))
        # The heaviest first and in turn, so that no worker is left with all the long ones.
        todo.sort(key=lambda run: -self.problems(run.task) * int(self.models.preset.searches[run.search]["rollouts"]))
        shares = [[self._order(run, wanted.runs[run]) for run in todo[place::count]] for place in range(count)]
        work = [Job(f"measure-{i}", {"job": "measure", "runs": share}, WORKER) for i, share in enumerate(shares)]
        cost = run_jobs(jobs, work, self.workers)
        for run in todo:
            self._found.pop(run.key, None)
        return cost

    def _order(self, run: Run, judges: frozenset[str]) -> dict[str, Any]:
        """Return what a worker must know to make a run."""
        return {
            "folder": str(self.run_folder(run)), "config": asdict(self.config(run)),
            "result": str(self.result_file(run)),
            "judges": [
                {"name": name, "reward": self.models.reward(name, run.seed),
                 "file": str(self.output / "judges" / run.key / f"{name}{SUFFIX}")}
                for name in sorted(self.judges_here(run, judges))
            ],
        }  # fmt: skip

    def run_folder(self, run: Run) -> Path:
        """Return the run's folder."""
        return self.output / "runs" / run.key


@cache
def _preset_values(name: str) -> Mapping[str, Any]:
    return load_preset(name)


@cache
def _size(task: str) -> int:
    from rstar_eval.tasks import task_spec

    size = task_spec(task).size
    assert size is not None, "the tasks of presets state their size"
    return size


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
