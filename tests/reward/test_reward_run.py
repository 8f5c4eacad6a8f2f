"""A whole run with a reward model, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def rstar_eval(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rstar_eval.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("policy", ["scripted", pytest.param("hf", marks=pytest.mark.slow)])
def test_mcts_with_a_ppm(kit: Any, policy: str, tmp_path: Path) -> None:
    spec = kit.spec("ppm")
    chosen = f"hf:{kit.models('rlhflow')}?format=rstar&threads=1" if policy == "hf" else policy
    done = rstar_eval(
        "--task", "mini_math", "--limit", "2", "--policy", chosen, "--reward", spec, "--strategy", "mcts",
        "--rollouts", "3", "--output", "out", "--json", *(["--set", "max_step_tokens=24"] if policy == "hf" else []),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["reward"]["reward"] == spec
    assert len(manifest["reward"]["sha256"]) == 64
    assert manifest["reward"]["value"] == "tanh(v / 5)"
    records = [json.loads(line) for line in (tmp_path / "out" / "trajectories.jsonl").read_text().splitlines()]
    assert len(records) == 2
    if policy == "scripted":
        scores = {one["score"] for record in records for one in record["trajectories"]}
        assert all(-1 <= score <= 1 for score in scores if score is not None)
        assert len(scores) > 1
        assert all(record["budget"]["scored_steps"] > 0 for record in records)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("ppm:nowhere", "no model at 'nowhere'"),
        ("pmp:x", "unknown reward model 'pmp'"),
        ("ppm", "names no model"),
        ("prm:.?kind=gpt", "kind='gpt'"),
    ],
)
def test_a_bad_reward_is_one_line_and_exit_code_2(reward: str, message: str, tmp_path: Path) -> None:
    done = rstar_eval("--task", "mini_math", "--policy", "scripted", "--reward", reward, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_convert_ppm_from_the_command_line(kit: Any, tmp_path: Path) -> None:
    done = rstar_eval("convert-ppm", str(kit.models("official")), "ours", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = kit.scores(f"ppm:{tmp_path / 'ours'}?device=cpu", kit.question, kit.texts)
    assert ours == pytest.approx(kit.scores(kit.spec("official"), kit.question, kit.texts), abs=1e-5)
    missing = rstar_eval("convert-ppm", "nowhere", "other", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no model at 'nowhere'" in missing.stderr
