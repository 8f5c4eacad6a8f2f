"""What is particular to the vLLM backend. One policy engine and one reward engine serve all tests of this file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import parse_policy_spec
from rstar_eval.solver.backends.engine import Sampling
from rstar_eval.solver.backends.vllm_engine import VLLMEngine, load
from rstar_eval.solver.backends.vllm_score import VLLMScoreEngine, start_scoring
from rstar_eval.solver.reward.engines import Head, ScoreInput
from rstar_eval.solver.reward.spec import parse_reward_spec
from rstar_eval.solver.types import Prompt

pytestmark = pytest.mark.vllm
OPTIONS = "ctx=256&kv_gib=0.25&parallel=8"
PROMPT = Prompt(raw="# Step 1: add the numbers.\nx = 1 + 2\n" * 4)


class Counters:
    """Sums vLLM's prefix-cache counters: a maker of stat loggers and the logger in one."""

    def __init__(self) -> None:
        self.queries = self.hits = 0

    def __call__(self, config: Any, engine_index: int = 0) -> Counters:
        return self

    def record(self, scheduler_stats: Any, *given: Any, **named: Any) -> None:
        stats = getattr(scheduler_stats, "prefix_cache_stats", None)
        if stats is not None:
            self.queries, self.hits = self.queries + stats.queries, self.hits + stats.hits

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass

    def record_sleep_state(self, *given: Any) -> None:
        pass


COUNTERS = Counters()


def processes(engine: Any) -> list[int]:
    return [one.pid for one in engine._keeper._engine.engine_core.resources.engine_manager.processes]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def engine(vllm_model: Path, policy_host: Any) -> Iterator[VLLMEngine]:
    spec = parse_policy_spec(f"vllm:{vllm_model}?{OPTIONS}&restarts=1")
    found, has_template = policy_host.do(load(spec, [COUNTERS]))
    assert has_template
    yield found
    policy_host.do(found.close())


@pytest.fixture
def do(policy_host: Any) -> Any:
    return policy_host.do


def plain(
    n: int = 4, seed: int = 5, tokens: int = 30, stops: tuple[str, ...] = (), temperature: float = 1.0
) -> Sampling:
    return Sampling(n, seed, temperature, 1.0, tokens, stops)


def test_greedy_samples_equal_those_of_transformers(engine: VLLMEngine, do: Any, vllm_model: Path) -> None:
    import torch
    import transformers

    prompts = ["# Step", "The answer is \\boxed{", "x = 1 + 2\nprint(x)\n```\n" * 3, "日本"]

    async def ask() -> Any:
        return await asyncio.gather(*(engine.generate(Prompt(raw=p), plain(2, temperature=0.0)) for p in prompts))

    tokenizer = transformers.AutoTokenizer.from_pretrained(vllm_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(vllm_model)
    for prompt, result in zip(prompts, do(ask()), strict=True):
        encoded = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**encoded, max_new_tokens=30, do_sample=False)[0, encoded["input_ids"].shape[1] :]
        ids = [token for token in out.tolist() if token != tokenizer.eos_token_id]
        assert result.completions[0] == result.completions[1]
        assert result.completions[0].tokens == len(out)
        assert result.prompt_tokens == encoded["input_ids"].shape[1]
        # An incomplete character at the end is left out here, and shown as a replacement character there.
        assert tokenizer.decode(ids).rstrip("\ufffd") == result.completions[0].text.rstrip("\ufffd")


def test_stop_strings_cut_the_same_samples(engine: VLLMEngine, do: Any) -> None:
    """With stop strings, of several tokens or of one, each completion is the one without them, cut at the first."""

    async def ask() -> None:
        free = await engine.generate(PROMPT, plain(6))
        for begin, end in ((7, 9), (4, 5)):
            stops = tuple({one.text[begin:end] for one in free.completions} - {""})
            cut = await engine.generate(PROMPT, plain(6, stops=stops))
            assert any(one.finish == "stop" for one in cut.completions)
            for before, after in zip(free.completions, cut.completions, strict=True):
                if after.finish == "stop":
                    assert after.stop in stops
                    assert before.text.startswith(after.text + str(after.stop))
                    assert after.tokens <= before.tokens
                    assert not any(stop in after.text for stop in stops)
                else:
                    assert after == before

    do(ask())


def test_stop_that_is_one_token_is_known_by_its_token(engine: VLLMEngine, do: Any) -> None:
    async def ask() -> None:
        free = await engine.generate(PROMPT, plain(8, tokens=60))
        ids = engine._stops(("<|user|>",))
        assert list(ids.values()) == ["<|user|>"]
        marked = [one for one in free.completions if "<|user|>" in one.text]
        cut = await engine.generate(PROMPT, plain(8, tokens=60, stops=("<|user|>",)))
        ended = [one for one in cut.completions if one.stop == "<|user|>"]
        assert len(ended) == len(marked)
        assert all(one.finish == "stop" for one in ended)

    do(ask())


def test_log_probability_is_that_of_the_model(engine: VLLMEngine, do: Any, vllm_model: Path) -> None:
    import torch
    import transformers

    sampling = replace(plain(64, tokens=1, temperature=0.7), top_p=0.9, logprobs=True)
    result = do(engine.generate(PROMPT, sampling))
    tokenizer = transformers.AutoTokenizer.from_pretrained(vllm_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(vllm_model)
    start = tokenizer(PROMPT.raw)["input_ids"]
    checked = 0
    for one in result.completions:
        ids = tokenizer(one.text)["input_ids"]
        if len(ids) != 1 or one.finish != "length":  # the text does not tell the token
            continue
        with torch.inference_mode():
            logits = model(torch.tensor([start + ids])).logits[0, len(start) - 1 : -1].log_softmax(-1)
        expected = sum(float(row[token]) for row, token in zip(logits, ids, strict=True))
        assert one.logprob == pytest.approx(expected, abs=1e-3)
        checked += 1
    assert all(one.logprob is not None and one.logprob < 0 for one in result.completions)
    assert all(one.logprob_tokens == one.tokens for one in result.completions)
    assert checked
    assert do(engine.generate(PROMPT, plain(1))).completions[0].logprob is None


def test_settings_that_vllm_refuses_are_one_line(engine: VLLMEngine, do: Any) -> None:
    with pytest.raises(BackendError, match="temperature"):
        do(engine.generate(PROMPT, plain(temperature=3.0)))


def test_samples_of_one_prompt_share_it(engine: VLLMEngine, do: Any) -> None:
    do(engine.reset_cache())
    before = (COUNTERS.queries, COUNTERS.hits)
    result = do(engine.generate(PROMPT, plain(8, tokens=4)))
    queries, hits = COUNTERS.queries - before[0], COUNTERS.hits - before[1]
    assert queries == 8 * result.prompt_tokens
    assert hits >= 7 * (result.prompt_tokens // 32 - 1) * 32


def test_cancelled_requests_leave_nothing_behind(engine: VLLMEngine, do: Any) -> None:
    async def ask() -> None:
        tasks = [asyncio.create_task(engine.generate(PROMPT, plain(4, seed=i, tokens=150))) for i in range(40)]
        await asyncio.sleep(0.3)
        assert engine._gate.open > 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine._gate.open == 0
        assert engine._keeper._engine.get_num_unfinished_requests() == 0

    do(ask())
    assert len(do(engine.generate(PROMPT, plain(4))).completions) == 4


def test_engine_does_not_hear_the_terminal(engine: VLLMEngine, do: Any) -> None:
    for pid in processes(engine):
        os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert do(engine.generate(PROMPT, plain(1))).completions


def test_killed_engine_is_started_once_and_the_samples_are_the_same(engine: VLLMEngine, do: Any) -> None:
    """This ends the engine of this file: it must be the last test that uses it."""

    async def ask(kill: bool) -> Any:
        tasks = [asyncio.create_task(engine.generate(PROMPT, plain(4, seed=100 * i, tokens=100))) for i in range(6)]
        if kill:
            await asyncio.sleep(0.2)
            os.kill(processes(engine)[0], signal.SIGKILL)
        return await asyncio.gather(*tasks, return_exceptions=True)

    quiet = do(ask(False))
    assert do(ask(True)) == quiet
    last = processes(engine)
    failed = do(ask(True))
    assert all(isinstance(one, BackendError) for one in failed)
    assert "died" in str(failed[0])
    assert not any(map(alive, last))
    with pytest.raises(BackendError, match="closed"):
        do(engine.generate(PROMPT, plain(1)))


@pytest.fixture(scope="module")
def reward_model(vllm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("reward")
    config = transformers.AutoConfig.from_pretrained(vllm_model)
    config.num_labels, config.pad_token_id = 1, 0
    torch.manual_seed(1)
    model = transformers.Qwen2ForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(vllm_model).save_pretrained(folder)
    return folder


def inputs(tokenizer: Any) -> list[ScoreInput]:
    texts = ["x = 1 + 2\nprint(x)\n" * 6, "日本 🙂 naïve", "}{" * 20, "a"]
    encoded = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    return [ScoreInput(ids, tuple(sorted({0, len(ids) // 2, len(ids) - 1}))) for ids in encoded]


def test_reward_outputs_equal_those_of_transformers(reward_model: Path, do: Any) -> None:
    import torch
    import transformers

    spec = parse_reward_spec(f"ppm:{reward_model}?engine=vllm&kv_gib=0.25&parallel=8")
    engine: VLLMScoreEngine = do(start_scoring(spec, reward_model, Head()))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(reward_model)
        given = inputs(tokenizer)
        model = transformers.Qwen2ForSequenceClassification.from_pretrained(reward_model)

        async def crowd() -> Any:
            return await asyncio.gather(*(engine.logits(given) for _ in range(5)))

        all_found = do(crowd())
        for one, places in zip(given, all_found[0], strict=True):
            assert len(places) == len(one.positions)
            for position, values in zip(one.positions, places, strict=True):
                with torch.inference_mode():
                    hidden = model.model(torch.tensor([one.tokens[: position + 1]])).last_hidden_state[0, -1]
                    expected = model.score(hidden)
                assert values == pytest.approx(expected.tolist(), abs=1e-4)
        for found in all_found[1:]:
            for ours, theirs in zip(found, all_found[0], strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    assert a == pytest.approx(b, abs=1e-4)
        assert do(engine.logits([])) == []

        async def cancelled() -> None:
            task = asyncio.create_task(engine.logits(given * 50))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert engine._keeper._engine.get_num_unfinished_requests() == 0
            assert engine._gate.open == 0

        do(cancelled())
        described = dict(engine.describe())
        assert json.loads(json.dumps(described)) == described
        pids = processes(engine)
    finally:
        do(engine.close())
    do(engine.close())
    until(lambda: not any(map(alive, pids)), 10)
    with pytest.raises(BackendError, match="closed"):
        do(engine.logits(given))


def test_reward_read_from_token_logits(vllm_model: Path, do: Any) -> None:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(vllm_model)
    tokens = tuple(tokenizer("+", add_special_tokens=False)["input_ids"] + tokenizer("2")["input_ids"])
    assert len(tokens) == 2
    spec = parse_reward_spec(f"prm:{vllm_model}?engine=vllm&kind=math-shepherd&kv_gib=0.25&parallel=8")
    engine = do(start_scoring(spec, vllm_model, Head("tokens", 2, tokens)))
    try:
        given = inputs(tokenizer)
        model = transformers.AutoModelForCausalLM.from_pretrained(vllm_model)
        for one, places in zip(given, do(engine.logits(given)), strict=True):
            with torch.inference_mode():
                logits = model(torch.tensor([one.tokens])).logits[0]
            for position, values in zip(one.positions, places, strict=True):
                assert values == pytest.approx([float(logits[position, token]) for token in tokens], abs=1e-3)
    finally:
        do(engine.close())


def test_adapter_gives_the_samples_of_the_merged_weights(vllm_model: Path, tmp_path: Path, do: Any) -> None:
    import torch
    import transformers
    from safetensors.torch import save_file

    model = transformers.AutoModelForCausalLM.from_pretrained(vllm_model)
    torch.manual_seed(3)
    weights: dict[str, Any] = {}
    for number, layer in enumerate(model.model.layers):
        for name in ("q_proj", "v_proj"):
            linear = getattr(layer.self_attn, name)
            a, b = torch.randn(4, linear.in_features) * 0.3, torch.randn(linear.out_features, 4) * 0.3
            key = f"base_model.model.model.layers.{number}.self_attn.{name}"
            weights |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
            linear.weight.data += 2.0 * b @ a  # lora_alpha / r = 8 / 4
    save_file(weights, tmp_path / "adapter_model.safetensors")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "peft_type": "LORA", "bias": "none"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    engine, _ = do(load(parse_policy_spec(f"vllm:{vllm_model}?{OPTIONS}&lora={tmp_path}")))
    try:
        found = do(engine.generate(PROMPT, plain(1, tokens=12, temperature=0.0))).completions[0]
        tokenizer = transformers.AutoTokenizer.from_pretrained(vllm_model)
        encoded = tokenizer(PROMPT.raw, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**encoded, max_new_tokens=12, do_sample=False)[0, encoded["input_ids"].shape[1] :]
        ids = [token for token in out.tolist() if token != tokenizer.eos_token_id]
        assert found.text.rstrip("\ufffd") == tokenizer.decode(ids).rstrip("\ufffd")
        assert engine.describe()["lora_sha256"]
    finally:
        do(engine.close())


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"architectures": ["NoSuchForCausalLM"]}, "", "NoSuchForCausalLM"),
        ({}, "&ctx=100000", "100000|max_model_len"),
        ({}, "&device=cuda:0", "is not there"),
        ({}, "&lora=/nowhere", "no LoRA adapter"),
    ],
)
def test_engine_that_does_not_start_is_one_line(
    vllm_model: Path, tmp_path: Path, do: Any, change: dict[str, Any], options: str, message: str
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(vllm_model, folder)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        do(load(parse_policy_spec(f"vllm:{folder}?kv_gib=0.25{options}")))
    assert "\n" not in str(caught.value)


def test_missing_folder_is_told_before_vllm_is_loaded(tmp_path: Path, do: Any) -> None:
    with pytest.raises(UserError, match="no model at"):
        do(load(parse_policy_spec(f"vllm:{tmp_path / 'none'}")))


def test_engine_ends_when_the_program_is_killed(vllm_model: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import asyncio\n"
        "from rstar_eval.solver.backends import make_policy\n"
        "async def main():\n"
        f"    policy = await make_policy('vllm:{vllm_model}?{OPTIONS}')\n"
        "    engine = policy.engine._keeper._engine\n"
        "    found = [one.pid for one in engine.engine_core.resources.engine_manager.processes]\n"
        f"    open({str(pids)!r}, 'w').write(' '.join(map(str, found)) + '\\n')\n"
        "    await asyncio.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    running = subprocess.Popen([sys.executable, str(script)])
    try:
        until(lambda: running.poll() is not None or (pids.exists() and pids.read_text().endswith("\n")), 900)
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    until(lambda: not any(map(alive, map(int, pids.read_text().split()))), 30)
