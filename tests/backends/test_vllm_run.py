"""Whole runs of 200 problems with policy and reward model on vLLM, whose engines are killed in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.records import comparable
from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.store import TRAJECTORIES, read_lines, read_manifest

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
SOLUTION = "<code>\nx = 3\n<end_of_step>\nprint(x + 4)\n<end_of_code>"
ANSWER = "\n<output>7<end_of_output>\n<answer>It is \\boxed{7}.<end_of_answer>"
PROBLEMS = 200


@pytest.fixture(scope="module")
def models(vllm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy that has learnt one solution by heart, and a reward model with random weights."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("by-heart")
    tokenizer = transformers.AutoTokenizer.from_pretrained(vllm_model)
    config = transformers.AutoConfig.from_pretrained(vllm_model)
    config.initializer_range = 0.05
    torch.manual_seed(0)
    policy = transformers.Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    rng, taught = random.Random(0), tokenizer(SOLUTION + ANSWER)["input_ids"]
    for _ in range(250):
        words = ("".join(rng.choices(string.ascii_letters, k=rng.randint(1, 8))) for _ in range(rng.randint(3, 80)))
        question = " ".join(str(rng.randrange(1000)) if rng.random() < 0.2 else word for word in words)
        asked = tokenizer(prompt_text(question))["input_ids"]
        ids = torch.tensor([asked + taught])
        labels = torch.tensor([[-100] * len(asked) + taught])
        policy(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.save_pretrained(folder / "policy")
    config.num_labels, config.pad_token_id = 1, 0
    transformers.Qwen2ForSequenceClassification(config).save_pretrained(folder / "reward")
    for name in ("policy", "reward"):
        tokenizer.save_pretrained(folder / name)
    return folder / "policy", folder / "reward"


def start(output: Path, models: tuple[Path, Path], restarts: int) -> subprocess.Popen[str]:
    engine = f"kv_gib=0.25&parallel=16&restarts={restarts}"
    command = [
        *(sys.executable, "-m", "rstar_eval.cli", "--task", "mini_math", "--limit", str(PROBLEMS)),
        *("--rollouts", "2", "--set", "candidates=3", "--set", "max_step_tokens=64", "--concurrency", "8"),
        *("--policy", f"vllm:{models[0]}?format=rstar&ctx=1024&{engine}"),
        *("--reward", f"ppm:{models[1]}?engine=vllm&{engine}", "--output", str(output)),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate(timeout=1500)
    assert process.returncode == code, text
    return text


def engines(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of the engine cores, in the order in which they were started."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return sorted(found)


def wait_for(output: Path, searches: int, process: subprocess.Popen[str]) -> None:
    log = output / TRAJECTORIES
    while not (log.exists() and log.read_bytes().count(b"\n") >= searches):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def records(output: Path) -> dict[Any, Any]:
    stored = list(read_lines(output, TRAJECTORIES))
    found = {one["problem"]: comparable(one) for one in stored}
    assert len(found) == len(stored), "something was stored twice"
    return found


def tokens(output: Path) -> int:
    return int(json.loads((output / "summary.json").read_text())["tasks"]["mini_math"]["tokens"])


def test_run_whose_engines_are_killed_is_the_undisturbed_run(models: tuple[Path, Path], tmp_path: Path) -> None:
    finish(start(tmp_path / "calm", models, 0))
    calm = records(tmp_path / "calm")
    assert len(calm) == PROBLEMS
    assert sum(one["budget"]["scored_steps"] for one in calm.values()) > PROBLEMS

    output = tmp_path / "killed"
    process = start(output, models, 0)
    wait_for(output, 30, process)
    os.kill(engines(process)[0], signal.SIGKILL)
    text = finish(process, 2)
    assert text.rstrip().splitlines()[-1].startswith("error: ")
    assert "the same command continues" in text
    assert "Traceback" not in text
    assert not any(Path(f"/proc/{pid}").exists() for pid in engines_left(process))

    process = start(output, models, 1)
    for searches in (80, 140):  # the policy's engine, then the older one of those that are left: the reward model's
        wait_for(output, searches, process)
        os.kill(engines(process)[0], signal.SIGKILL)
    text = finish(process)
    assert "it is started again" in text
    assert records(output) == calm
    spent = sum(one["budget"]["completion_tokens"] for one in calm.values())
    assert tokens(output) == tokens(tmp_path / "calm") == spent > PROBLEMS
    assert [one["ended"] for one in read_manifest(output)["sessions"]] == ["failed", "finished"]


def engines_left(process: subprocess.Popen[str]) -> list[int]:
    """Return engine cores whose log variable names the process, which has ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"RSTAR_EVAL_VLLM={process.pid}:".encode() in environment:
            found.append(int(folder.name))
    return found
