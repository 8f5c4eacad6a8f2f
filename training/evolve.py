"""Self-evolution: rounds of search, data, training and evaluation, from a base model (paper, section 3.4).

    rstar-eval evolve --preset mini --output DIR [--rounds 4] [--seed S]

A round searches the problems of the pool, and new ones of its own, with the current policy (told the outcome of its
answers, and guided by the last PPM in rounds 3 and 4), turns the trees into data, trains a policy from the base and a
PPM, evaluates both on the validation task, and keeps the new policy unless it is clearly worse. Every stage is
resumable, and finished ones are never done again: state.json says which these are.
"""

from __future__ import annotations

import hashlib
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
from rstar_eval.training.datasets import latest, read_rows, write_datasets, write_rows
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_figures import (
    Runs,
    paired_difference,
    read_runs,
    round_figures,
    score,
    share_by_level,
    short,
    solved,
    summary_text,
    training_metrics,
)
from rstar_eval.training.evolve_jobs import Cost, Job, run_jobs, training_job
from rstar_eval.training.evolve_pool import make_pool, own_problems, pool_trees, stored_problems
from rstar_eval.training.evolve_state import EvolveState
from rstar_eval.training.evolve_worker import write_json
from rstar_eval.training.train import TrainConfig

Say = Callable[[str], None]


class Evolution:
    """A self-evolution in a folder. Its methods are the stages; each returns the figures that state.json keeps."""

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

    def run(self, rounds: int, until: str | None = None) -> list[dict[str, Any]]:
        """Do `rounds` rounds, or all stages up to the one called `until` ("base", "round1", "round2/data", ...).

        Returns the figures a round (round 0: the base).
        """
        for name, work in self._stages(rounds):
            if name not in self.state.stages:
                self.say(f"{name} ...")
                figures = self.state.once(name, work)
                self.say(f"{name}: {short(figures)}")
            if until is not None and (name == until or (name.endswith("/gate") and name.split("/")[0] == until)):
                break
        return self.figures()

    def _stages(self, rounds: int) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
        stages: list[tuple[str, Callable[[], dict[str, Any]]]] = []
        if not self.config.base:
            stages.append(("base", self._base))
        stages.append(("round0/evaluate", lambda: self._evaluate(0)))
        for number in range(1, rounds + 1):
            stages.append((f"round{number}/search", lambda n=number: self._search(n)))  # type: ignore[misc]
            if self.config.plan(number).more is not None:
                stages.append((f"round{number}/more", lambda n=number: self._more(n)))  # type: ignore[misc]
            stages += [
                (f"round{number}/data", lambda n=number: self._data(n)),  # type: ignore[misc]
                (f"round{number}/train", lambda n=number: self._train(n)),  # type: ignore[misc]
                (f"round{number}/evaluate", lambda n=number: self._evaluate(n)),  # type: ignore[misc]
                (f"round{number}/gate", lambda n=number: self._gate(n)),  # type: ignore[misc]
            ]
        stages.append((f"round{rounds}/judges", lambda: self._judges(rounds)))
        return stages

    # ---- where things lie

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

    # ---- stages

    def _base(self) -> dict[str, Any]:
        from rstar_eval.training.mini_base import bootstrap_rows, write_untrained

        folder, cost = self.folder / "base", Cost(0.0, 0.0, 0)
        parameters = write_untrained(folder / "untrained", self.config.seed)
        start, digests = folder / "untrained", []
        for phase, settings in enumerate(self.config.pretrain, start=1):
            corpus = folder / f"corpus{phase}.jsonl"
            if not corpus.exists():  # written atomically: if it is there it is whole
                seed = self.config.corpus_seeds()[phase - 1]
                write_rows(corpus, bootstrap_rows(self.config.demonstrations, seed, self.config.author))
            digests.append(hashlib.sha256(corpus.read_bytes()).hexdigest())
            output = folder / ("policy" if phase == len(self.config.pretrain) else f"phase{phase}")
            cost += self._train_all(folder, [self._training("sft", corpus, start, output, settings, 0)])
            start = output
        figures = {"parameters": parameters, "demonstrations": self.config.demonstrations * len(digests)}
        return {**figures, "corpus_sha256": digests, "seconds": cost.seconds, "peak_mb": cost.peak_mb}

    def _search(self, number: int) -> dict[str, Any]:
        plan = self.config.plan(number)
        policy = self.config.policy(str(self.policy(number - 1)))
        if number == 1 and self.config.bootstrap:
            policy = self.config.bootstrap
        folder = self._round(number) / "search"
        mine = [problem.id for problem in self._own(number)] if plan.fresh else None
        run = self._run(folder, policy, self._guide(number), plan.search, ("search", number), training=True, only=mine)
        cost = self._do(self._round(number), "search", [run])
        return self._search_figures([folder], cost)

    def _more(self, number: int) -> dict[str, Any]:
        """Search what the round's first search left unsolved, wider and with other seeds."""
        plan = self.config.plan(number)
        assert plan.more is not None, "a stage of rounds with a second search alone"
        found = solved(read_runs(self.shards(self._round(number) / "search")))
        left = [problem.id for problem in self._own(number) if not found.get(problem.id)]
        folder, policy = self._round(number) / "more", self.config.policy(str(self.policy(number - 1)))
        if not left:
            return {"problems": 0}
        run = self._run(folder, policy, self._guide(number), plan.more, ("more", number), training=True, only=left)
        cost = self._do(self._round(number), "more", [run])
        return {"problems": len(left), **self._search_figures([folder], cost)}

    def _data(self, number: int) -> dict[str, Any]:
        from rstar_eval.training.build import build

        # Rows are named after the evolution, not its folder: the same settings give the same data anywhere.
        trees = pool_trees(self.pool, self._stores(number), f"evolve-{self.config.name}-{self.config.seed}", number)
        sets = build(trees, self.config.data)
        folder = self._round(number) / "data"
        manifest = write_datasets(folder, sets, self.config.data, round=number)
        rounds = range(1, number + 1)
        sft = latest([read_rows(self._round(n) / "data" / "sft.jsonl", "sft") for n in rounds])
        write_rows(folder / "sft-union.jsonl", sft)
        pairs = dict.fromkeys(
            row for n in rounds for row in read_rows(self._round(n) / "data" / "pairs.jsonl", "pairs")
        )
        write_rows(folder / "pairs-union.jsonl", list(pairs))
        so_far = dict.fromkeys((problem.id for problem in self._own(number)), False)
        for n in rounds:
            for store in self._stores(n):
                so_far |= {key: True for key, hit in solved(read_runs([store])).items() if hit and key in so_far}
        counts = {name: entry["rows"] for name, entry in manifest["data"].items()}
        return {
            "rows": counts, "sha256": {name: entry["sha256"] for name, entry in manifest["data"].items()},
            "sft_union": len(sft), "pairs_union": len(pairs), "pool": share_by_level(so_far, self._levels()),
        }  # fmt: skip

    def _train(self, number: int) -> dict[str, Any]:
        """Train the policy from the base, then the PPM from the new policy, which it will guide if the gate keeps it
        (if not, it guides the one before)."""
        folder, data = self._round(number), self._round(number) / "data"
        policy, ppm = folder / "policy", folder / "ppm"
        sft = self._training(
            "sft", data / "sft-union.jsonl", self.base_policy(), policy, self.config.sft_of(number), number
        )
        pairs = self._training("ppm", data / "pairs-union.jsonl", policy, ppm, self.config.ppm, number)
        cost = self._train_all(folder, [sft]) + self._train_all(folder, [pairs])
        return {"sft": training_metrics(folder / "policy"), "ppm": training_metrics(folder / "ppm"), **_cost(cost)}

    def _evaluate(self, number: int) -> dict[str, Any]:
        """Measure pass@1 (greedy) on the validation task and, after a round, the search with its PPM and majority."""
        folder = self._round(number)
        policy = self.config.policy(str(folder / "policy" if number else self.base_policy()))
        wide = self.config.system2
        greedy = self.config.greedy()
        majority = replace(wide, strategy="majority", trees=1, rollouts_per_trajectory=1, choose="auto")
        limit, purpose = self.config.system2_limit, ("evaluate", number)
        runs = [
            self._run(folder / "greedy", policy, None, greedy, purpose, limit=self.config.greedy_limit),
            self._run(folder / "majority", policy, None, majority, purpose, limit=limit),
        ]
        if number:
            ppm = self.config.reward("ppm", str(folder / "ppm"))
            runs.append(self._run(folder / "system2", policy, ppm, wide, purpose, limit=limit))
        cost = self._do(folder, "evaluate", runs)
        names = {"pass1": "greedy", "majority": "majority", **({"system2": "system2"} if number else {})}
        return {key: score(self.runs(folder / name)) for key, name in names.items()} | _cost(cost)

    def _gate(self, number: int) -> dict[str, Any]:
        """Keep the round's policy unless its pass@1 is below the last one's by more than two standard errors."""
        before = self.policy(number - 1).parent
        old = self._round(0) if before == self.base_policy().parent else before
        hits = [
            {key: one.outcome == "correct" for key, one in self.runs(folder / "greedy").grades.items()}
            for folder in (self._round(number), old)
        ]
        gain, error = paired_difference(*hits)
        return {"kept": gain >= -2 * error, "gain": [gain, error]}

    def _judges(self, rounds: int) -> dict[str, Any]:
        """Train the last round's PQM and ORM, like its PPM from its own policy, on all rounds' values and labels."""
        folder = self._round(rounds) / "judges"
        kinds: tuple[tuple[str, str], ...] = (("pqm", "values"), ("orm", "outcomes"))
        jobs = []
        for kind, name in kinds:
            rows = {
                row: None
                for n in range(1, rounds + 1)
                for row in read_rows(self._round(n) / "data" / f"{name}.jsonl", name)  # type: ignore[arg-type]
            }
            write_rows(folder / f"{name}.jsonl", list(rows))
            start, settings = self._round(rounds) / "policy", self.config.pqm if kind == "pqm" else self.config.orm
            jobs.append(self._training(kind, folder / f"{name}.jsonl", start, folder / kind, settings, rounds))
        cost = self._train_all(folder, jobs)
        return {kind: training_metrics(folder / kind) for kind, _ in kinds} | _cost(cost)

    # ---- what stages share

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
        figures = {"pool": share_by_level(solved(runs), self._levels()), "tokens": runs.tokens, **_cost(cost)}
        aside = sum(len(read_manifest(store)["sessions"][-1].get("set_aside", ())) for store in stores)
        return {**figures, "set_aside": aside} if aside else figures

    def _levels(self) -> dict[str, str]:
        return {problem.id: problem.level or "" for problem in self.pool}

    def _validation(self) -> list[Problem]:
        from rstar_eval.tasks import load_task

        return list(load_task(self.config.task).problems[: max(self.config.greedy_limit, self.config.system2_limit)])

    def figures(self) -> list[dict[str, Any]]:
        """Return the figures of the rounds that have any: round 0 is the base."""
        return round_figures(self.state.stages)


def _cost(cost: Cost) -> dict[str, Any]:
    return {"seconds": cost.seconds, "job_seconds": round(cost.job_seconds, 1), "peak_mb": cost.peak_mb}


def write_summary(evolution: Evolution) -> None:
    """Write summary.json and summary.md into the evolution's folder."""
    rounds = evolution.figures()
    config = evolution.config
    write_json(evolution.folder / "summary.json", {"preset": config.name, "seed": config.seed, "rounds": rounds})
    text = summary_text(rounds, f"Self-evolution, preset {config.name}, seed {config.seed}")
    (evolution.folder / "summary.md").write_text(text, encoding="utf-8")
