"""The client against a server on loopback that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.backends.openai_api import continuation, logprob_of
from rstar_eval.solver.types import SampleRequest, SampleResult

REQUEST = SampleRequest("What is 1 + 1?", "", 1, seed=3, max_tokens=50)


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)


def sample(spec: str, request: SampleRequest = REQUEST, before: Callable[[], None] = lambda: None) -> SampleResult:
    async def go() -> SampleResult:
        policy = await make_policy(spec)
        before()
        try:
            return await policy.sample(request)
        finally:
            await policy.close()

    return asyncio.run(go())


@pytest.mark.parametrize("kind", ["unknown", "vllm", "llamacpp"])
@pytest.mark.parametrize("faults", [[500, 503], [429], ["die"], ["die", 502, 429]])
def test_passing_trouble_is_retried(fake_server: Any, kind: str, faults: list[int | str]) -> None:
    server = fake_server(kind)
    untroubled = sample(server.spec)
    assert sample(server.spec, before=lambda: server.faults.extend(faults)) == untroubled
    assert not server.faults


@pytest.mark.parametrize(
    ("listed", "kept", "expected"),
    [
        (None, None, (None, 0)),
        ({"content": None}, "x", (None, 0)),
        ({"content": []}, "", (0.0, 0)),
        ({"content": [{"token": "a", "logprob": -1}, {"token": "bc", "logprob": -2}]}, None, (-3.0, 2)),
        ({"content": [{"token": "a", "logprob": -1}, {"token": "bc", "logprob": -2}]}, "a", (-1.0, 1)),
        ({"content": [{"token": "a", "logprob": -1}, {"token": "bc", "logprob": -2}]}, "c", (-2.0, 1)),
        ({"content": [{"token": "a", "logprob": -1}, {"token": "bc", "logprob": -2}]}, "zz", (-3.0, 2)),
        ({"tokens": ["a", "b"], "token_logprobs": [None, -0.5]}, None, (-0.5, 1)),
    ],
)
def test_log_probabilities_of_what_is_kept(listed: Any, kept: str | None, expected: Any) -> None:
    assert logprob_of({"logprobs": listed}, kept) == expected


def test_a_server_that_refuses_log_probabilities_still_answers(fake_server: Any) -> None:
    server = fake_server("unknown")
    server.refuses = "logprobs"
    result = sample(server.spec, replace(REQUEST, logprobs=True))
    assert result.completions
    assert all(one.logprob is None for one in result.completions)


def test_retry_after_is_obeyed(fake_server: Any) -> None:
    server = fake_server()
    server.faults, server.retry_after = [429], "0.3"
    times: list[float] = []
    original = server.write
    server.write = lambda *args: (times.append(0), original(*args))[1]
    assert sample(server.spec).completions
    assert len(times) == 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([500] * 9, "keeps failing .status 500: trouble"),
        (["die"] * 9, "no answer from the server"),
        (["<html>gateway</html>"], "with no JSON"),
        (["{}"], "cannot be read"),
        (['{"choices": [], "usage": null}'], "cannot be read|0 of 1"),
        (['{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'], "cannot be read"),
        ([404], "refuses a request"),
    ],
)
def test_lasting_trouble_is_a_backend_error(fake_server: Any, faults: list[int | str], message: str) -> None:
    server = fake_server()
    with pytest.raises(BackendError, match=message) as caught:
        sample(server.spec + "?retries=2", before=lambda: server.faults.extend(faults))
    assert "\n" not in str(caught.value)


def test_server_that_goes_away_mid_run(fake_server: Any) -> None:
    server = fake_server()

    async def go() -> None:
        policy = await make_policy(server.spec + "?retries=1")
        assert (await policy.sample(REQUEST)).completions
        server.stop()
        with pytest.raises(BackendError, match="no answer from the server"):
            await policy.sample(SampleRequest("Other?", "", 1, seed=1))
        await policy.close()

    asyncio.run(go())


def test_slow_server_runs_into_the_timeout(fake_server: Any) -> None:
    server = fake_server()
    with pytest.raises(BackendError, match="no answer"):
        sample(server.spec + "?timeout=0.1&retries=0", before=lambda: setattr(server, "delay", 0.5))


def test_unreachable_server_is_a_user_error_at_once() -> None:
    with pytest.raises(UserError, match=r"no answer from the server at http://127\.0\.0\.1:9/") as caught:
        sample("openai:m@http://127.0.0.1:9/v1")
    assert not isinstance(caught.value, BackendError)


def test_unknown_model_and_missing_key(fake_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake_server("vllm")
    with pytest.raises(UserError, match=r"serves no model 'fak'\. did you mean fake"):
        sample(server.spec.replace("openai:fake", "openai:fak"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("RSTAR_EVAL_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        sample("openai:gpt-x")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_is_a_user_error(fake_server: Any, status: int) -> None:
    server = fake_server()
    with pytest.raises(UserError, match="refuses the key"):
        sample(server.spec, before=lambda: server.faults.append(status))


def test_vllm_is_asked_to_continue_the_assistant_message(fake_server: Any) -> None:
    server = fake_server("vllm")
    sample(server.spec, SampleRequest("Q?", "```python\n# Step 1: a\nx = 1\n", 2, seed=0))
    asked = server.seen[-1]
    assert asked["continue_final_message"] is True
    assert asked["add_generation_prompt"] is False
    assert asked["messages"][-1] == {"role": "assistant", "content": "```python\n# Step 1: a\nx = 1\n# Step"}
    assert asked["n"] == 2
    assert len(server.seen) == 1


def test_unknown_server_is_asked_in_words_and_gets_no_stops(fake_server: Any) -> None:
    server = fake_server("unknown")
    server.text = "```python\n# Step 1: a\nx = 1\n# Step 2: b\nprint(x)\n```\nSo the answer is..."
    result = sample(server.spec, SampleRequest("Q?", "```python\n# Step 1: a\nx = 1\n", 2, seed=0, max_tokens=500))
    asked = server.seen[-1]
    assert "stop" not in asked
    assert asked["messages"][-1]["role"] == "user"
    assert asked["messages"][-1]["content"].endswith("# Step")
    assert [(c.text, c.stop) for c in result.completions] == [(" 2: b\nprint(x)", "\n```")] * 2
    assert result.completions[0].tokens == len(server.text)


def test_raw_prompts_go_to_the_completions_endpoint(fake_server: Any) -> None:
    for kind in ("unknown", "vllm"):
        server = fake_server(kind)
        sample(server.spec + "?format=rstar")
        assert server.seen[-1]["path"] == "/v1/completions"
        assert server.seen[-1]["prompt"].startswith("<|user|>:")


@pytest.mark.parametrize(
    ("prefix", "reply", "added"),
    [
        ("```python\n# Step 1:", "```python\n# Step 1: add\nx = 1", " add\nx = 1"),
        ("```python\n# Step 1:", "Sure!\n```python\n# Step 1: add", " add"),
        ("```python\n# Step 1:", " add\nx = 1", " add\nx = 1"),
        ("```python\n# Step 1:", "# Step 1: add", " add"),
        ("```python\n# Step 1: a\nx=1\n# Step", "# Step 2: b", " 2: b"),
        ("```python\n# Step 1: a\nx=1\n# Step", "```python\n# Step 1: a\nx = 1\n# Step 2: b", " 2: b"),
        ("```python\n# Step 1: a\nx=1\n# Step", "```python\n# Step 2: b", " 2: b"),
        ("...\nThe answer is \\boxed{", "The answer is \\boxed{5}.", "5}."),
        ("...\nThe answer is \\boxed{", "5}.", "5}."),
        ("```python\n# Step 1:", "", ""),
    ],
)
def test_what_a_reply_adds_to_a_prefix(prefix: str, reply: str, added: str) -> None:
    assert continuation(prefix, reply) == added
