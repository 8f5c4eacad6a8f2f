"""A self-evolution's folder: where its stages leave things, and the searches and trainings that stages are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rstar_eval.engine.config import LOCAL, EngineConfig
from rstar_eval.problem import Problem
from rstar_eval.serial import line, to_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.store import read_manifest
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_figures import Runs, read_runs, share_by_level, solved
from rstar_eval.training.evolve_jobs import Cost, Job, run_jobs, training_job
from rstar_eval.training.evolve_pool import make_pool, own_problems, stored_problems
from rstar_eval.training.evolve_state import EvolveState
from rstar_eval.training.train import TrainConfig

Say = Callable[[str], None]


class EvolutionFolder:
    """What the stages of a self-evolution (evolve.py) share."""

    def __init__(
        self,
        config: EvolveConfig,
        folder: Path,
        say: Say,
        where: EngineConfig = LOCAL,
        accelerate: Path | None = None,
    ) -> None:
        """where: what does the searches. accelerate: a config file of accelerate, by which trainings are launched
        (None: each in one process). Neither changes what the evolution is: another session may have others."""
        self.config, self.folder, self.say = config, folder.resolve(), say
        self.where, self.accelerate = where, accelerate
        self.state = EvolveState(self.folder, asdict(config))
        self.pool = stored_problems(self.folder / "pool.jsonl", lambda: make_pool(config))
        self.validation = stored_problems(self.folder / "validation.jsonl", self._validation)

    def base_policy(self) -> Path:
        """Return the folder of the model that every SFT starts from."""
        return Path(self.config.base) if self.config.base else self.folder / "base" / "policy"

    def policy(self, number: int) -> Path:
        """Return the folder of the policy that round `number` ended with (its own, or the last one that was kept)."""
        for back in range(number, 0, -1):
            gate = self.state.stages.get(f"round{back}/gate")
            if gate is None or gate["kept"]:
                return self.folder / f"round{back}" / "policy"
        return self.base_policy()

    def _round(self, number: int) -> Path:
        return self.folder / f"round{number}"

    def shards(self, folder: Path) -> list[Path]:
        """Return the run folders of a search."""
        return [folder / f"shard{shard}" for shard in range(self.config.workers)]

    def _own(self, number: int) -> list[Problem]:
        """Return the problems that a round searches: those of all rounds, and its plan's own."""
        return own_problems(self.pool, self.config, number)

    def _guide(self, number: int) -> str | None:
        """Return the spec of the PPM that guides a round's search: the last round's, where the plan says so."""
        if not self.config.plan(number).guided or number < 2:
            return None
        return self.config.reward("ppm", str(self._round(number - 1) / "ppm"))

    def _run(
        self,
        folder: Path,
        policy: str,
        reward: str | None,
        search: SearchConfig,
        purpose: Sequence[object],
        *,
        training: bool = False,
        only: list[str] | None = None,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """Return the description of a search for a job: of the pool (training) or of the validation problems."""
        name, chosen = ("pool", self.pool) if training else ("validation", self.validation)
        seeded = replace(search, seed=derive_seed(self.config.seed, *purpose))
        settings = {
            "policy": policy, "reward": reward, "keep_trees": training, "search": asdict(seeded),
            "where": asdict(self.where),
        }  # fmt: skip
        ids = only if only is not None else None if limit is None else [one.id for one in chosen[:limit]]
        return {
            "folder": str(folder), "problems": str(self.folder / f"{name}.jsonl"), "task": name, "only": ids,
            "sha256": derive_seed(line([to_data(one) for one in chosen])), "config": settings, "training": training,
        }  # fmt: skip

    def _do(self, folder: Path, name: str, runs: Sequence[dict[str, Any]]) -> Cost:
        """Do searches one after the other, each one's problems shared by as many processes as there are workers. With a
        distributed engine one process does the shards one after the other, each with all of the engine's workers."""
        shards = self.config.workers
        mine = [list(range(shards))] if self.where.distributed else [[shard] for shard in range(shards)]
        jobs = [
            Job(f"{name}-{one[0]}", {"job": "search", "mine": one, "shards": shards, "runs": list(runs)})
            for one in mine
        ]
        return run_jobs(folder / "jobs", jobs, shards)

    def _train_all(self, folder: Path, jobs: Sequence[Job]) -> Cost:
        """Do trainings side by side, sharing the cores, or one after the other where each takes all of the machine's
        devices."""
        if self.accelerate is not None:
            return run_jobs(folder / "jobs", jobs, 1)
        threads = max(1, self.config.workers // len(jobs))
        shared = [replace(job, data={**job.data, "threads": threads}) for job in jobs]
        return run_jobs(folder / "jobs", shared, self.config.workers)

    def _training(self, kind: str, rows: Path, base: Path, output: Path, settings: TrainConfig, number: int) -> Job:
        config = replace(settings, seed=derive_seed(self.config.seed, "train", kind, number))
        return training_job(kind, rows, base, output, config, {"round": number}, self.accelerate)

    def runs(self, folder: Path) -> Runs:
        """Return the records of a search's shards."""
        return read_runs(self.shards(folder))

    def _stores(self, number: int) -> list[Path]:
        """Return the run folders of a round's searches, those of the second search last."""
        folders = [self._round(number) / name for name in ("search", "more")]
        return [store for folder in folders for store in self.shards(folder) if store.exists()]

    def _search_figures(self, folders: Sequence[Path], cost: Cost) -> dict[str, Any]:
        stores = [store for folder in folders for store in self.shards(folder)]
        runs = read_runs(stores)
        figures = {"pool": share_by_level(solved(runs), self._levels()), "tokens": runs.tokens, **cost_of(cost)}
        aside = sum(len(read_manifest(store)["sessions"][-1].get("set_aside", ())) for store in stores)
        return {**figures, "set_aside": aside} if aside else figures

    def _levels(self) -> dict[str, str]:
        return {problem.id: problem.level or "" for problem in self.pool}

    def _validation(self) -> list[Problem]:
        from rstar_eval.tasks import load_task

        return list(load_task(self.config.task).problems[: max(self.config.greedy_limit, self.config.system2_limit)])


def cost_of(cost: Cost) -> dict[str, Any]:
    """Return a cost as figures of a stage."""
    return {"seconds": cost.seconds, "job_seconds": round(cost.job_seconds, 1), "peak_mb": cost.peak_mb}
