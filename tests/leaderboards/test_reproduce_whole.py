"""A whole reproduction from nothing: an evolution, ablations, runs, results, tables; short, with the shipped base."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rstar_eval.embedded import checkpoint, checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("r0" not in checkpoints(), reason="the package holds no embedded base (embedded/r0)"),
]

TINY = {
    "plans.0.fresh": "{'1': 10, '2': 6}", "plans.1.fresh": "{}", "plans.2.fresh": "{}", "plans.3.fresh": "{}",
    "final": "null",
    "sft.max_steps": "6", "ppm.max_steps": "4", "pqm.max_steps": "2",
    "orm.max_steps": "2", "greedy_limit": "10", "system2_limit": "4",
}  # fmt: skip


def start(output: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the reproduction of Table 7 on two problems of each task."""
    command = [sys.executable, "-m", "rstar_eval.cli", "reproduce", "table7", "--output", str(output), "--rounds", "1"]
    return subprocess.Popen([*command, "--limit", "2", "--workers", "1", *more], stdout=subprocess.DEVNULL)


def test_everything_from_one_command_and_after_a_kill_the_same_numbers(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    base = os.environ.get("RSTAR_EVAL_TEST_BASE") or str(checkpoint("r0"))
    settings = [word for key, value in {**TINY, "base": base}.items() for word in ("--set", f"{key}={value}")]
    assert start(whole, "--seeds", "5", *settings).wait() == 0
    assert (whole / "models" / "seed5" / "sft-random" / "model.safetensors").exists()
    evolution = ("--evolve", str(whole / "evolve" / "seed5"))
    process = start(killed, *evolution)
    while process.poll() is None and not list(killed.glob("results/seed5/*/*.zst")):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it was killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert start(killed, *evolution).wait() == 0
    tables = [json.loads((one / "rendered" / "table7.json").read_text()) for one in (whole, killed)]
    for table in tables:
        for row in table["rows"]:
            for cell in row["cells"]:
                del cell["manifests"]  # they hold the folders' names
    assert tables[0] == tables[1]
    measured = [cell["measured"] for row in tables[0]["rows"] for cell in row["cells"]]
    assert sum(value is not None for value in measured) == 3 * 4
