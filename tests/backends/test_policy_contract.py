"""What every backend guarantees. Each test runs on all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.protocols import Policy
from rstar_eval.solver.types import SampleRequest

KINDS = [
    "scripted",
    "scripted-chat",
    "hf",
    pytest.param("vllm", marks=pytest.mark.vllm),
    "openai-unknown",
    "openai-vllm",
    "openai-llamacpp",
    pytest.param("smollm2", marks=[pytest.mark.net, pytest.mark.slow]),
]
REQUEST = SampleRequest("Tom has 3 apples and buys 4 more. How many?", "", 3, seed=11, temperature=1.0, max_tokens=24)

HOSTS: dict[str, Any] = {}
"""By scheme, what keeps its policies from test to test."""


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "hf":
        return f"hf:{request.getfixturevalue('tiny_model')}?format=chat&threads=1"
    if kind == "vllm":
        HOSTS["vllm"] = request.getfixturevalue("policy_host")
        return f"vllm:{request.getfixturevalue('vllm_model')}?format=chat&ctx=4096&kv_gib=0.25&parallel=16"
    if kind.startswith("openai-"):
        return str(request.getfixturevalue("fake_server")(kind.removeprefix("openai-")).spec)
    return {"scripted-chat": "scripted?format=chat", "smollm2": "smollm2?parallel=4&ctx=2048"}.get(kind, kind)


def with_policy(spec: str, use: Callable[[Policy], Awaitable[Any]]) -> Any:
    scheme = spec.partition(":")[0]
    if scheme in HOSTS:
        return HOSTS[scheme].run(spec, use)

    async def go() -> Any:
        policy = await make_policy(spec)
        try:
            return await use(policy)
        finally:
            await policy.close()

    return asyncio.run(go())


def test_gives_n_completions_with_known_ends(spec: str) -> None:
    async def use(policy: Policy) -> None:
        for until in ("step", "block"):
            request = replace(REQUEST, until=until)
            result = await policy.sample(request)
            assert len(result.completions) == 3
            assert result.prompt_tokens > 0
            stops = policy.format.stops(until)
            for completion in result.completions:
                assert completion.tokens >= 0
                assert (completion.stop in stops) if completion.finish == "stop" else completion.stop is None
                assert not any(stop in completion.text for stop in stops)
                steps = policy.format.parse("", completion)
                assert steps
                assert until == "block" or len(steps) == 1

    with_policy(spec, use)


def keeps_seeds(spec: str) -> bool:
    """Whether equal requests give equal samples. llama.cpp's arithmetic depends on what else it computes and has in its
    cache, which now and then tips a token (docs/policies.md)."""
    return not spec.startswith("smollm2")


def test_seed_decides_the_samples(spec: str) -> None:
    async def use(policy: Policy) -> None:
        first = await policy.sample(REQUEST)
        if keeps_seeds(spec):
            assert await policy.sample(REQUEST) == first
        others = [await policy.sample(replace(REQUEST, seed=seed)) for seed in (100, 200, 300)]
        assert any(other != first for other in others)

    with_policy(spec, use)


def test_other_requests_in_flight_do_not_change_the_samples(spec: str) -> None:
    if not keeps_seeds(spec):
        pytest.skip("llama.cpp's arithmetic depends on the batch (docs/policies.md)")

    async def use(policy: Policy) -> None:
        alone = await policy.sample(REQUEST)
        crowd = [replace(REQUEST, question=f"What is {i} + {i}?" * (i + 1), seed=i, n=2) for i in range(6)]
        together = await asyncio.gather(*(policy.sample(one) for one in [*crowd[:3], REQUEST, *crowd[3:]]))
        assert together[3] == alone

    with_policy(spec, use)


def test_a_request_of_three_is_three_requests_of_one(spec: str) -> None:
    if not spec.startswith(("hf", "vllm", "openai")):
        pytest.skip("the scripted policies number their candidates; llama.cpp's arithmetic depends on the batch")

    async def use(policy: Policy) -> None:
        together = await policy.sample(REQUEST)
        single = [await policy.sample(replace(REQUEST, n=1, seed=REQUEST.seed + i)) for i in range(3)]
        assert together.completions == tuple(result.completions[0] for result in single)

    with_policy(spec, use)


def test_log_probabilities_come_when_asked_for_and_change_nothing(spec: str) -> None:
    async def use(policy: Policy) -> None:
        plain = await policy.sample(REQUEST)
        assert all(one.logprob is None and one.logprob_tokens == 0 for one in plain.completions)
        asked = await policy.sample(replace(REQUEST, logprobs=True))
        for one in asked.completions:
            assert one.logprob is not None
            assert one.logprob <= 0
            assert one.logprob_tokens > 0 or not one.text
        if keeps_seeds(spec):
            bare = [replace(one, logprob=None, logprob_tokens=0) for one in asked.completions]
            assert tuple(bare) == plain.completions

    with_policy(spec, use)


def test_temperature_zero_is_greedy(spec: str) -> None:
    if not keeps_seeds(spec):
        pytest.skip("llama.cpp's arithmetic depends on the batch (docs/policies.md)")

    async def use(policy: Policy) -> None:
        result = await policy.sample(replace(REQUEST, temperature=0.0))
        assert len(set(result.completions)) == 1
        again = await policy.sample(replace(REQUEST, temperature=0.0, seed=99))
        assert again.completions[0].text == result.completions[0].text

    with_policy(spec, use)


def test_max_tokens_bounds_and_says_length(spec: str) -> None:
    async def use(policy: Policy) -> None:
        result = await policy.sample(replace(REQUEST, max_tokens=2, until="block"))
        for completion in result.completions:
            assert completion.tokens <= 3  # the end-of-sequence token may come on top
            if completion.finish == "length":
                assert completion.tokens == 2
        assert any(completion.finish == "length" for completion in result.completions)

    with_policy(spec, use)


def test_unicode_and_empty_questions_are_answered(spec: str) -> None:
    async def use(policy: Policy) -> None:
        for question in ("", "日本 🙂 naïve — ∑ \x00 é", "}{" * 20):
            assert len((await policy.sample(replace(REQUEST, question=question))).completions) == 3

    with_policy(spec, use)


def test_cancelled_request_leaves_the_policy_working(spec: str) -> None:
    async def use(policy: Policy) -> None:
        tasks = [asyncio.create_task(policy.sample(replace(REQUEST, seed=i, until="block"))) for i in range(4)]
        await asyncio.sleep(0.02)
        for task in tasks[:3]:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(ends[3].completions) == 3
        assert len((await policy.sample(REQUEST)).completions) == 3

    with_policy(spec, use)


def test_description_is_plain_and_closing_twice_is_allowed(spec: str) -> None:
    async def use(policy: Policy) -> None:
        described = dict(policy.describe())
        assert json.loads(json.dumps(described)) == described
        assert described["policy"] == spec
        assert described["format"] == policy.format.name
        await policy.close()

    with_policy(spec, use)


OVERLONG = [
    "hf",
    pytest.param("vllm", marks=pytest.mark.vllm),
    "openai-vllm",
    "openai-llamacpp",
    "openai-unknown",
    pytest.param("smollm2", marks=[pytest.mark.net, pytest.mark.slow]),
]


@pytest.mark.parametrize("kind", OVERLONG)
def test_overlong_prompt_gives_empty_completions_of_length(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "hf":
        spec = f"hf:{request.getfixturevalue('tiny_model')}?format=chat&threads=1&ctx=64"
    elif kind == "smollm2":
        spec = "smollm2?parallel=2&ctx=1024"
    elif kind == "vllm":
        HOSTS["vllm"] = request.getfixturevalue("policy_host")
        spec = f"vllm:{request.getfixturevalue('vllm_model')}?format=chat&ctx=4096&kv_gib=0.25&parallel=16"
    else:
        spec = request.getfixturevalue("fake_server")(kind.removeprefix("openai-"), context=3000).spec
    long = replace(REQUEST, question="word " * 3000)
    result = with_policy(spec, lambda policy: policy.sample(long))
    assert [(c.text, c.finish, c.tokens) for c in result.completions] == [("", "length", 0)] * 3


def test_closed_model_says_so(tiny_model: Any) -> None:
    async def go() -> None:
        policy = await make_policy(f"hf:{tiny_model}?format=chat&threads=1")
        await policy.close()
        with pytest.raises(BackendError, match="closed"):
            await policy.sample(REQUEST)

    asyncio.run(go())


def test_missing_packages_name_the_extra(tmp_path: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for spec, extra in (
        (f"gguf:{model}", "llamacpp"),
        ("smollm2", "llamacpp"),
        (f"hf:{tiny_model}", "hf"),
        (f"vllm:{tiny_model}", "vllm"),
    ):
        with pytest.raises(UserError, match=rf"pip install 'rstar-eval\[{extra}\]'"):
            asyncio.run(make_policy(spec))
