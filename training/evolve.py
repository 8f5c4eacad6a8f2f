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
from dataclasses import replace
from pathlib import Path
from typing import Any

from rstar_eval.training.datasets import DataSets, latest, read_rows, write_datasets, write_rows
from rstar_eval.training.evolve_figures import (
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
from rstar_eval.training.evolve_folder import EvolutionFolder, cost_of
from rstar_eval.training.evolve_jobs import Cost
from rstar_eval.training.evolve_pool import FINAL, own_problems, pool_trees
from rstar_eval.training.evolve_worker import write_json
from rstar_eval.training.rows import RowKind
from rstar_eval.training.train import TrainConfig


class Evolution(EvolutionFolder):
    """A self-evolution in a folder. Its methods are the stages; each returns the figures that state.json keeps."""

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
        if self.config.final is not None:
            stages.append((f"round{rounds}/final", lambda: self._final(rounds)))
        stages.append((f"round{rounds}/judges", lambda: self._judges(rounds)))
        return stages

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
        sets = self._build(self._stores(number), number)
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
        return {"sft": training_metrics(folder / "policy"), "ppm": training_metrics(folder / "ppm"), **cost_of(cost)}

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
        return {key: score(self.runs(folder / name)) for key, name in names.items()} | cost_of(cost)

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

    def _final(self, rounds: int) -> dict[str, Any]:
        """Search problems of the stage's own with the final policy, unguided, and make data sets of the trees: its own
        mistakes, which the rounds' trees, found by the policies before it, do not hold."""
        plan = self.config.final
        assert plan is not None, "a stage of settings with a final search alone"
        folder = self._round(rounds) / "final"
        mine = [problem.id for problem in own_problems(self.pool, self.config, FINAL)]
        policy = self.config.policy(str(self.policy(rounds)))
        run = self._run(folder / "search", policy, None, plan.search, ("final", rounds), training=True, only=mine)
        cost = self._do(folder, "final", [run])
        sets = self._build(self.shards(folder / "search"), rounds)
        manifest = write_datasets(folder / "data", sets, self.config.data, round=rounds)
        counts = {name: entry["rows"] for name, entry in manifest["data"].items()}
        return {"problems": len(mine), "rows": counts, **self._search_figures([folder / "search"], cost)}

    def _judges(self, rounds: int) -> dict[str, Any]:
        """Train the final policy's judges from it, on the rows of all rounds and of the final search: PQM, ORM and,
        after a final search, its PPM, which is measured like a round's. Without one: the last round's own policy's."""
        plan, folder = self.config.final, self._round(rounds) / "judges"
        start = self._round(rounds) / "policy" if plan is None else self.policy(rounds)
        kinds: dict[str, tuple[RowKind, TrainConfig]] = {
            "pqm": ("values", self.config.pqm), "orm": ("outcomes", self.config.orm),
        }  # fmt: skip
        if plan is not None:
            kinds = {"ppm": ("pairs", self.config.ppm), **kinds}
            kinds = {kind: (rows, replace(settings, max_steps=plan.steps)) for kind, (rows, settings) in kinds.items()}
        data = [self._round(number) / "data" for number in range(1, rounds + 1)]
        data += [] if plan is None else [self._round(rounds) / "final" / "data"]
        jobs = []
        for kind, (name, settings) in kinds.items():
            rows = dict.fromkeys(row for part in data for row in read_rows(part / f"{name}.jsonl", name))
            write_rows(folder / f"{name}.jsonl", list(rows))
            jobs.append(self._training(kind, folder / f"{name}.jsonl", start, folder / kind, settings, rounds))
        cost = self._train_all(folder, jobs)
        figures: dict[str, Any] = {kind: training_metrics(folder / kind) for kind in kinds}
        if plan is not None:
            spec = self.config.reward("ppm", str(folder / "ppm"))
            run = self._run(
                folder / "system2", self.config.policy(str(start)), spec, self.config.system2, ("evaluate", rounds),
                limit=self.config.system2_limit,
            )  # fmt: skip
            cost += self._do(folder, "evaluate", [run])
            figures["system2"] = score(self.runs(folder / "system2"))
        return figures | cost_of(cost)

    def _build(self, stores: Sequence[Path], number: int) -> DataSets:
        """Return the data sets of the trees in run folders. Rows are named after the evolution, not its folder: the
        same settings give the same data anywhere."""
        from rstar_eval.training.build import build

        return build(
            pool_trees(self.pool, stores, f"evolve-{self.config.name}-{self.config.seed}", number), self.config.data
        )

    def figures(self) -> list[dict[str, Any]]:
        """Return the figures of the rounds that have any: round 0 is the base."""
        return round_figures(self.state.stages)


def write_summary(evolution: Evolution) -> None:
    """Write summary.json and summary.md into the evolution's folder."""
    rounds = evolution.figures()
    config = evolution.config
    write_json(evolution.folder / "summary.json", {"preset": config.name, "seed": config.seed, "rounds": rounds})
    text = summary_text(rounds, f"Self-evolution, preset {config.name}, seed {config.seed}")
    (evolution.folder / "summary.md").write_text(text, encoding="utf-8")
