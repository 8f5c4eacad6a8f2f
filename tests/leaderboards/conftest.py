"""Runs and results that the tests of tables, figures and the board share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.evaluation import run_config
from rstar_eval.leaderboards.experiments import Experiment, load_preset
from rstar_eval.leaderboards.measure import Run, needed
from rstar_eval.leaderboards.models import Models
from rstar_eval.leaderboards.results import EVOLUTION
from rstar_eval.leaderboards.scores import SUFFIX, ProblemScore, RunScores, write_lines, write_scores
from rstar_eval.training.evolve_config import evolve_preset
from rstar_eval.training.evolve_worker import LogProgress


@pytest.fixture(scope="session")
def scripted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the scripted policy: six problems, a search tree each."""
    folder = tmp_path_factory.mktemp("runs") / "scripted"
    settings = {
        "tasks": "mini_math", "limit": 6, "policy": "scripted", "reward": "scripted", "rollouts": 8, "candidates": 4,
        "keep_trees": True,
    }  # fmt: skip
    run_config(build_config(settings), folder, LogProgress())
    return folder


@pytest.fixture
def evolution_folder(tmp_path: Path) -> Path:
    """What an evolution of one round leaves, without its models."""
    folder = tmp_path / "evolution"
    folder.mkdir()
    stages = {"round1/gate": {"kept": True, "gain": [0.1, 0.02]}, "round1/judges": {}}
    config = evolve_preset("mini", {"final": None, **{f"plans.{place}.fresh": {} for place in range(4)}}, seed=3)
    state = {"schema": 1, "settings": asdict(config), "stages": stages}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "pool.jsonl").write_text("")
    return folder


def made_up_run(run: Run, problems: int, trajectories: int, judges: frozenset[str], skill: float) -> RunScores:
    """Return scores of a run that never was: every trajectory is right with chance `skill`."""
    rng = Random(run.key)
    strategy = "mcts" if "search" in run.search else "greedy" if run.search == "greedy" else "majority"
    config = {
        "strategy": strategy, "rollouts": trajectories, "trees": 1, "choose": "auto", "top_k": 8, "seed": run.seed,
        "policy": run.policy, "reward": run.reward or None, "candidates": 8,
    }  # fmt: skip
    found = []
    for index in range(problems):
        groups = [0 if rng.random() < skill else rng.randint(1, 4) for _ in range(trajectories)]
        right = "".join("1" if group == 0 else "0" for group in groups)
        scores = tuple(rng.uniform(-1, 1) for _ in groups)
        found.append(
            ProblemScore(
                f"{run.task}-{index}", index, str(index % 5 + 1), "correct" if right[0] == "1" else "wrong",
                10 * trajectories,
                tuple(groups), right, scores if run.reward else None, None, tuple(range(10, 10 * trajectories + 1, 10)),
                dict.fromkeys(judges, scores),
            )
        )  # fmt: skip
    manifest: dict[str, Any] = {
        "config": config, "config_hash": f"hash-{run.policy}", "policy": {}, "reward": None,
        "grader": {"name": "default", "version": "1"}, "sessions": [], "data": {run.task: {"source": {"sha256": "0"}}},
    }  # fmt: skip
    return RunScores(run.task, manifest, tuple(found))


@pytest.fixture
def made_up_results(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes results for everything that some experiments need at preset mini."""

    def make(experiments: list[Experiment], seeds: tuple[int, ...] = (0, 1), problems: int = 12) -> Path:
        folder, preset = tmp_path / "results", load_preset("mini")
        wanted = needed(experiments, Models(preset, tmp_path), seeds)
        for run, judges in wanted.runs.items():
            count = int(preset.searches[run.search]["rollouts"])
            skill = 0.2 + 0.1 * int(run.policy[1]) if run.policy[1:].isdigit() else 0.3
            write_scores(folder / (run.key + SUFFIX), made_up_run(run, problems, count, judges, skill))
        for seed in seeds:
            head = {
                "schema": 1,
                "kind": "evolution",
                "seed": seed,
                "last": 4,
                "final": 4,
                "settings": {},
                "figures": [],
            }
            pool = [
                {
                    "problem": f"p{seed}-{i}",
                    "level": str(i % 5 + 1),
                    "drawn_for": None,
                    "round": None if i % 5 == 4 else i % 4 + 1,
                }
                for i in range(40)
            ]
            write_lines(folder / f"seed{seed}" / EVOLUTION, [head, *pool])
        return folder

    return make
