"""vLLM on CUDA devices: two engines on one GPU by stated shares, engines on different GPUs, tensor parallelism.

pytest --run-gpu --run-vllm tests/gpu. RSTAR_EVAL_GPU_POLICY names a model folder (Qwen2 or like); without it one
with random weights is made, which is enough for what is tested.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.backends import make_policy, parse_policy_spec
from rstar_eval.solver.backends.vllm_score import start_scoring
from rstar_eval.solver.backends.vllm_settings import read_settings
from rstar_eval.solver.reward.engines import Head, ScoreInput
from rstar_eval.solver.reward.spec import parse_reward_spec
from rstar_eval.solver.types import SampleRequest

pytestmark = [pytest.mark.gpu, pytest.mark.vllm]
REQUEST = SampleRequest("Tom has 3 apples and buys 4 more. How many?", "", 4, seed=11, temperature=1.0, max_tokens=24)


def devices() -> int:
    torch = pytest.importorskip("torch")
    return int(torch.cuda.device_count())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy and a reward model with heads of 64."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds

    if not devices():
        pytest.skip("no CUDA device")
    folder = tmp_path_factory.mktemp("gpu")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(kinds.BPE(vocab={one: i for i, one in enumerate([*alphabet, "<|end|>"])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    given = os.environ.get("RSTAR_EVAL_GPU_POLICY")
    policy = Path(given) if given else folder / "policy"
    if not given:
        transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape)).save_pretrained(policy)
        tokenizer.save_pretrained(policy)
    judge = transformers.Qwen2ForSequenceClassification(transformers.Qwen2Config(**shape, num_labels=1))
    judge.save_pretrained(folder / "reward")
    tokenizer.save_pretrained(folder / "reward")
    return policy, folder / "reward"


async def use_both(models: tuple[Path, Path], policy_options: str, reward_options: str) -> None:
    policy = await make_policy(f"vllm:{models[0]}?ctx=1024&eager=true&{policy_options}", format="rstar")
    try:
        spec = parse_reward_spec(f"ppm:{models[1]}?engine=vllm&eager=true&{reward_options}")
        reward = await start_scoring(spec, models[1], Head())
        try:
            inputs = [ScoreInput(tuple(range(5, 5 + n)), (n - 1,)) for n in (3, 40, 200)]
            result, outputs = await asyncio.gather(policy.sample(REQUEST), reward.logits(inputs))
            assert len(result.completions) == 4
            assert [len(places) for places in outputs] == [1, 1, 1]
            import torch
            import transformers

            model = transformers.AutoModelForSequenceClassification.from_pretrained(models[1], dtype="float32")
            for one, places in zip(inputs, outputs, strict=True):
                with torch.inference_mode():
                    expected = model(torch.tensor([one.tokens])).logits[0]
                assert places[0] == pytest.approx(expected.tolist(), abs=0.05)  # bfloat16 there
        finally:
            await reward.close()
    finally:
        await policy.close()


def test_two_engines_share_one_gpu_by_stated_shares(models: tuple[Path, Path]) -> None:
    asyncio.run(use_both(models, "memory=0.4", "memory=0.3"))


def test_shares_above_the_whole_are_one_line(models: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="memory"):
        asyncio.run(use_both(models, "memory=0.9", "memory=0.9"))


def test_engines_on_different_gpus(models: tuple[Path, Path]) -> None:
    if devices() < 2:
        pytest.skip("one CUDA device only")
    asyncio.run(use_both(models, "device=cuda:0&memory=0.5", "device=cuda:1&memory=0.5"))


def test_tensor_parallel(models: tuple[Path, Path]) -> None:
    if devices() < 2:
        pytest.skip("one CUDA device only")
    asyncio.run(use_both(models, "device=cuda:0,1&memory=0.4", "device=cuda:0&memory=0.3"))


def test_device_that_is_not_there(models: tuple[Path, Path]) -> None:
    spec = parse_policy_spec(f"vllm:{models[0]}?device=cuda:{devices()}")
    with pytest.raises(UserError, match="is not there"):
        read_settings(models[0], spec)
