"""lm-eval's own command line on our tasks, with a real model and with the solver, and the same responses graded by us.

python benchmarks/lm_eval/agreement.py --gguf MODEL.gguf --data-dir FOLDER [--limit 20] [--tasks rstar_gsm8k,...]

1. A llama.cpp server with the model (extra `llamacpp`), asked by lm-eval's `local-chat-completions`.
2. `--model rstar` with the same model as the policy (`--settings`, by default majority of 2 rollouts).
3. `--model rstar` with the greedy strategy, and the main job with the same settings: the same searches, so the same
   figures.

Of 1 and 2 every stored response is graded again by `rstar-eval grade` (a process of its own, on the extracted answers),
and accuracies are compared with those that lm-eval reports: they must be equal to the last digit. Exit code 1 if any is
not. `--steps 1` and so on does a part; `--hf FOLDER` asks lm-eval's `hf` model instead of a server in step 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstar_eval.grading import extract_answer
from rstar_eval.solver.backends import llamacpp_process

CLI = [sys.executable, "-m", "rstar_eval.cli"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--hf")
    parser.add_argument("--policy", help="the solver's policy (default: gguf:MODEL)")
    parser.add_argument("--settings", default="strategy=majority,rollouts=2")
    parser.add_argument("--tasks", default="rstar_gsm8k,rstar_math500")
    parser.add_argument("--limit", default="20")
    parser.add_argument("--tokens", type=int, default=256, help="the most tokens of a response in step 1")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder for lm-eval's --use_cache: a run that was killed goes on")
    parser.add_argument("--steps", default="1,2,3")
    options = parser.parse_args()
    if options.data_dir:
        os.environ["RSTAR_EVAL_DATA"] = str(options.data_dir)
    policy = options.policy or f"gguf:{options.gguf}?parallel=4&ctx=2048"
    good = True
    for step in options.steps.split(","):
        for task in options.tasks.split(","):
            with tempfile.TemporaryDirectory() as folder:
                good = STEPS[step](task, policy, Path(folder), options) and good
    return 0 if good else 1


def real_model(task: str, policy: str, folder: Path, options: argparse.Namespace) -> bool:
    """Step 1: lm-eval's own model, our task."""
    generation = f"max_gen_toks={options.tokens}"
    if options.hf:
        arguments = ["--model", "hf", "--model_args", f"pretrained={options.hf},dtype=float32,max_length=1024"]
        return agree(
            "lm-eval's hf model", task, lm_eval(task, folder, options, [*arguments, "--gen_kwargs", generation])
        )
    with server(options.gguf) as (url, key):
        os.environ["OPENAI_API_KEY"] = key
        model = f"model={options.gguf.name},base_url={url}/v1/chat/completions,num_concurrent=4,max_retries=3"
        arguments = ["--model", "local-chat-completions", "--model_args", model, "--apply_chat_template"]
        found = lm_eval(task, folder, options, [*arguments, "--gen_kwargs", generation])
    return agree("llama.cpp server", task, found)


def solver(task: str, policy: str, folder: Path, options: argparse.Namespace) -> bool:
    """Step 2: the solver as lm-eval's model."""
    arguments = ["--model", "rstar", "--model_args", f"policy={policy},{options.settings}"]
    return agree(f"rstar, {options.settings}", task, lm_eval(task, folder, options, arguments))


def greedy(task: str, policy: str, folder: Path, options: argparse.Namespace) -> bool:
    """Step 3: the solver in lm-eval, greedily, against the main job."""
    arguments = ["--model", "rstar", "--model_args", f"policy={policy},strategy=greedy"]
    rows, results = lm_eval(task, folder, options, arguments)
    command = [*CLI, "--task", task.removeprefix("rstar_"), "--policy", policy, "--strategy", "greedy"]
    done = run([*command, "--limit", options.limit, "--output", str(folder / "run"), "--json"])
    (ours,) = json.loads(done.splitlines()[-1])["tasks"].values()
    theirs = results["acc,all"]
    same = round(theirs, 6) == ours["accuracy"] and len(rows) == ours["n"]
    print(
        f"{task}, greedy: lm-eval {theirs:.4f}, main job {ours['accuracy']:.4f}, n = {ours['n']}: {told(same)}",
        flush=True,
    )
    return same


STEPS = {"1": real_model, "2": solver, "3": greedy}


def lm_eval(
    task: str, folder: Path, options: argparse.Namespace, arguments: list[str]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Run lm-eval's command line; return its stored samples and its results for the task."""
    command = [*CLI, "lm-eval", "run", *arguments, "--tasks", task, "--limit", options.limit]
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(arguments[:4]).split("base_url")[0].encode()).hexdigest()[:8]
        command += ["--use_cache", str(options.cache / f"{task}-{name}")]
    run([*command, "--output_path", str(folder / "lm-eval"), "--log_samples"])
    (results,) = folder.glob("lm-eval/**/results_*.json")
    (samples,) = folder.glob("lm-eval/**/samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return rows, json.loads(results.read_text(encoding="utf-8"))["results"][task]


def agree(what: str, task: str, found: tuple[list[dict[str, Any]], dict[str, float]]) -> bool:
    """Grade the stored responses by `rstar-eval grade` and compare with what lm-eval reports."""
    rows, results = found
    pairs, missing = [], 0
    for row in rows:
        answer = extract_answer(str(row["resps"][0][0]))
        missing += answer is None
        golds = [row["doc"]["answer"], *row["doc"]["alternatives"]]
        text = "" if answer is None else answer.text
        pairs += [{"gold": gold, "pred": text, "id": row["doc_id"], "task": row["doc"]["task"]} for gold in golds]
    text = "".join(json.dumps(pair) + "\n" for pair in pairs)
    graded = [json.loads(line) for line in run([*CLI, "grade", "--pairs", "-"], text).splitlines()]
    right = {one["id"] for one in graded if one["verdict"] == "correct"}
    own, theirs = len(right) / len(rows), results["acc,all"]
    each = all((row["acc"] == 1.0) == (row["doc_id"] in right) for row in rows)
    same = own == theirs and each and missing / len(rows) == results["no_answer,all"]
    print(
        f"{task}, {what}: lm-eval {theirs:.4f}, own grading {own:.4f}, no answer {missing}, n = {len(rows)}, each "
        f"problem alike: {each}: {told(same)}",
        flush=True,
    )
    return same


def run(command: list[str], text: str | None = None) -> str:
    """Run a command; its standard output. Ends the script with what it said if it failed."""
    began = time.monotonic()
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    print(f"  {time.monotonic() - began:.0f} s: {' '.join(command[3:])[:150]}", file=sys.stderr, flush=True)
    return done.stdout


@contextlib.contextmanager
def server(model: Path) -> Iterator[tuple[str, str]]:
    """A llama.cpp server with the model: its address and key."""
    loop = asyncio.new_event_loop()
    threads = llamacpp_process.usable_cpus()
    running = loop.run_until_complete(llamacpp_process.start(model, context=2048, parallel=4, threads=threads))
    try:
        yield running.url, running.api_key
    finally:
        loop.run_until_complete(running.stop())
        loop.close()


def told(same: bool) -> str:
    return "the same" if same else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(main())
