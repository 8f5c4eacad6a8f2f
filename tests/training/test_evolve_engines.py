"""Evolutions with Ray workers for their searches, or trainings that accelerate launches: what a local one makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.embedded import checkpoint, checkpoints
from rstar_eval.errors import UserError
from rstar_eval.store import folders
from rstar_eval.training.evolve_jobs import accelerate_config, accelerate_launcher

CPUS = """compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
num_machines: 1
machine_rank: 0
num_processes: 2
use_cpu: true
mixed_precision: "no"
"""
TINY = {
    "plans.0.fresh": "{'1': 10, '2': 6}", "plans.1.fresh": "{}", "plans.2.fresh": "{}", "plans.3.fresh": "{}",
    "final.fresh": "{'1': 4}",
    "sft.max_steps": "4", "ppm.max_steps": "3", "sft.save_steps": "2",
    "ppm.save_steps": "2", "greedy_limit": "4", "system2_limit": "2", "workers": "2",
}  # fmt: skip
needs_base = pytest.mark.skipif("r0" not in checkpoints(), reason="the package holds no embedded base (embedded/r0)")


def evolve(folder: Path, until: str, *more: str) -> dict[str, Any]:
    settings = {**TINY, "base": str(checkpoint("r0"))}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "rstar_eval.cli", "evolve", "--output", str(folder), "--rounds", "1", *words]
    done = subprocess.run(
        [*command, "--until", until, *more], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    stages: dict[str, Any] = json.loads((folder / "state.json").read_text())["stages"]
    return stages


@pytest.mark.slow
@needs_base
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'rstar-eval[ray]'")
def test_an_evolution_on_ray_workers_makes_the_same_data(tmp_path: Path) -> None:
    local = evolve(tmp_path / "local", "round1/data")
    there = evolve(tmp_path / "ray", "round1/data", "--engine", "ray", "--workers", "2")
    assert there["round1/data"]["sha256"] == local["round1/data"]["sha256"]
    assert there["round1/search"]["pool"] == local["round1/search"]["pool"]
    assert there["round0/evaluate"]["pass1"] == local["round0/evaluate"]["pass1"]
    shards = sorted(one.name for one in (tmp_path / "ray" / "round1" / "search").iterdir())
    assert shards == ["shard0", "shard1"]
    assert len(folders(tmp_path / "ray" / "round1" / "search" / "shard0")) > 1, "workers have segments"


@pytest.mark.slow
@needs_base
def test_trainings_are_launched_by_accelerate_from_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "cpus.yaml").write_text(CPUS)
    evolve(tmp_path / "run", "round1/train", "--accelerate", str(tmp_path / "cpus.yaml"))
    jobs = tmp_path / "run" / "round1" / "jobs"
    for job in ("policy-sft", "ppm-ppm"):
        assert json.loads((jobs / f"{job}.done.json").read_text())["processes"] == 2
    for name, steps in (("policy", 4), ("ppm", 3)):
        trained = json.loads((tmp_path / "run" / "round1" / name / "training.json").read_text())
        assert trained["steps"] == steps


def test_a_config_of_accelerate_is_a_file_or_one_of_the_packages(tmp_path: Path) -> None:
    assert accelerate_config(None) is None
    packaged = accelerate_config("fsdp")
    assert packaged is not None
    assert packaged.name == "fsdp.yaml"
    assert accelerate_launcher(packaged)[-2:] == ("--config_file", str(packaged))
    (tmp_path / "own.yaml").write_text(CPUS)
    assert accelerate_config(str(tmp_path / "own.yaml")) == tmp_path / "own.yaml"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read accelerate's config .*: No such file .* one of ddp, fsdp"),
        ("{", "can't read accelerate's config .*: no YAML"),
        ("num_processes: 2\n", "is no config of accelerate"),
    ],
)
def test_a_wrong_config_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        accelerate_config(str(path))
