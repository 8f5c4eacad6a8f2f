"""A whole run with a reward model, from the command line (in this process, where torch is loaded already)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.cli import main

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def rstar_eval(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in an empty folder: (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rstar-eval", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), capfd.readouterr().err

    return run


@pytest.mark.parametrize("policy", ["scripted", pytest.param("hf", marks=pytest.mark.slow)])
def test_mcts_with_a_ppm(kit: Any, policy: str, rstar_eval: Command, tmp_path: Path) -> None:
    spec = kit.spec("ppm")
    chosen = f"hf:{kit.models('rlhflow')}?format=rstar&threads=1" if policy == "hf" else policy
    code, said = rstar_eval(
        "--task", "mini_math", "--limit", "2", "--policy", chosen, "--reward", spec, "--strategy", "mcts",
        "--rollouts", "3", "--output", "out", "--json", *(["--set", "max_step_tokens=24"] if policy == "hf" else []),
    )  # fmt: skip
    assert code == 0, said
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
def test_a_bad_reward_is_one_line_and_exit_code_2(
    reward: str, message: str, rstar_eval: Command, nothing_runs: None
) -> None:
    code, said = rstar_eval("--task", "mini_math", "--policy", "scripted", "--reward", reward)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1, said


def test_convert_ppm_from_the_command_line(kit: Any, rstar_eval: Command, tmp_path: Path) -> None:
    code, said = rstar_eval("convert-ppm", str(kit.models("official")), "ours")
    assert code == 0, said
    ours = kit.scores(f"ppm:{tmp_path / 'ours'}?device=cpu", kit.question, kit.texts)
    assert ours == pytest.approx(kit.scores(kit.spec("official"), kit.question, kit.texts), abs=1e-5)
    code, said = rstar_eval("convert-ppm", "nowhere", "other")
    assert code == 2
    assert "no model at 'nowhere'" in said
