"""Two processes train what one does: losses are divided by what all devices together hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rstar_eval.training.datasets import write_rows
from rstar_eval.training.rows import PairRow, Provenance

pytest.importorskip("torch")
PROMPT = "<|user|>:\n{}\n<|assistant|>: Let's think step by step and solve the problem with code."


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    rows = [
        PairRow(PROMPT.format("q" * n), "<code>a" * n, "<code>b", n % 3 + 1, 2, source=Provenance(problem=f"{n:016x}"))
        for n in range(1, 9)
    ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    command = [
        "-m", "rstar_eval.cli", "train", "ppm", "--data", str(tmp_path / "pairs.jsonl"), "--base", str(base),
        "--set", "head=last_token", "--set", "batch_tokens=null", "--set", "batch_rows=1", "--set", "step_rows=4",
        "--set", "max_steps=3", "--set", "schedule=constant", "--set", "warmup=0", "--output",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    alone = subprocess.run([sys.executable, *command, str(tmp_path / "one")], env=env, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    both = subprocess.run([*launcher, *command, str(tmp_path / "two")], env=env, capture_output=True, text=True)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("ppm: 3 steps") == 1, "one process speaks"
    start = load_file(base / "model.safetensors")
    one, two = load_file(tmp_path / "one" / "model.safetensors"), load_file(tmp_path / "two" / "model.safetensors")
    assert set(one) == set(two)
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-6
    assert max(float((one[key] - start[key]).abs().max()) for key in one if key in start) > 1e-4, (
        "something was learned"
    )
