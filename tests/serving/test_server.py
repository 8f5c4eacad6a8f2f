"""A real server on loopback, asked by the official client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

pytest.importorskip("starlette", reason="the server's packages are not installed (extra serve)")

KEY = "test-key"
ASK = [{"role": "user", "content": "What is 20 + 3?"}]


@contextmanager
def _serve(
    *options: str, policy: str = "scripted?delay=0.01", port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "rstar_eval.cli", "serve", "--policy", policy, "--port", str(port), *options]
    environment = {**os.environ, "RSTAR_EVAL_SERVE_KEY": KEY}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if match := re.match(r"listening on (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(seen))
        os.set_blocking(process.stderr.fileno(), False)
        yield match[1], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stderr.close()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with _serve("--concurrency", "4", "--queue", "100", "--set", "rollouts=2", "--max-characters", "2000") as (base, _):
        yield base


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)


def _metric(url: str, name: str) -> float:
    text = httpx.get(url.removesuffix("/v1") + "/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_a_question_gets_a_boxed_answer_with_usage_and_votes(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="rstar-majority-4", messages=ASK, seed=5)  # type: ignore[arg-type]
    content = reply.choices[0].message.content
    assert content is not None
    assert content.startswith("The final answer is \\boxed{")
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0
    details = reply.model_extra["rstar"]  # type: ignore[index]
    assert details["choice"]["rule"] == "majority"
    assert sum(weight for _, weight in details["choice"]["votes"]) <= 4
    again = client.chat.completions.create(model="rstar-majority-4", messages=ASK, seed=5)  # type: ignore[arg-type]
    assert again.choices[0].message.content == content


def test_streaming_tells_the_way_and_ends_with_the_same_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="rstar-mcts-3", messages=ASK, seed=1)  # type: ignore[arg-type]
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="rstar-mcts-3", messages=ASK, seed=1, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    told = "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas)
    assert told.count("solution") == 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_wrong_keys_models_and_over_long_questions_are_the_clients_errors(url: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError, match="API key"):
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.chat.completions.create(model="gpt-4", messages=ASK)  # type: ignore[arg-type]
    long = [{"role": "user", "content": "x" * 2001}]
    with pytest.raises(openai.BadRequestError, match="2001 characters"):
        client.chat.completions.create(model="rstar", messages=long)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="needs a reward model"):
        client.chat.completions.create(model="rstar-best-of-n-4", messages=ASK, stream=True)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {KEY}"}
    assert (
        httpx.post(f"{url}/chat/completions", headers=headers, content=b"{").json()["error"]["code"] == "invalid_json"
    )
    huge = httpx.post(f"{url}/chat/completions", headers=headers, content=b" " * (2 << 20))
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "body_too_large")
    assert httpx.get(f"{url}/nothing", headers=headers).json()["error"]["code"] == "not_found"


def test_models_health_and_metrics(url: str, client: openai.OpenAI) -> None:
    names = [one.id for one in client.models.list()]
    assert {"rstar", "rstar-mcts-64", "rstar-greedy"} <= set(names)
    health = httpx.get(url.removesuffix("/v1") + "/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    before = _metric(url, "rstar_requests_total")
    client.chat.completions.create(model="rstar-greedy", messages=ASK)  # type: ignore[arg-type]
    assert _metric(url, "rstar_requests_total") == before + 1
    assert httpx.get(url.removesuffix("/v1") + "/metrics").status_code == 401


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_search(url: str, stream: bool) -> None:
    before = _metric(url, 'rstar_requests_total{status="499"}')
    body = {"model": "rstar-mcts-256", "messages": ASK, "stream": stream}  # some thousand requests of 10 ms and more
    impatient = httpx.Timeout(10, read=0.5)  # the request is sent whole; then the client waits for half a second
    headers = {"Authorization": f"Bearer {KEY}"}
    if stream:
        with httpx.stream("POST", f"{url}/chat/completions", json=body, headers=headers, timeout=10) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=impatient)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if _metric(url, "rstar_running") == 0 and _metric(url, 'rstar_requests_total{status="499"}') > before:
            return
        time.sleep(0.1)
    raise AssertionError("the search went on")


def test_64_requests_at_once_are_all_answered(url: str) -> None:
    async def ask_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            asked = (
                client.chat.completions.create(  # type: ignore[call-overload]
                    model="rstar-majority-2", messages=[{"role": "user", "content": f"What is {i} + 1?"}]
                )
                for i in range(64)
            )
            return [reply.choices[0].message.content for reply in await asyncio.gather(*asked)]

    answers = asyncio.run(ask_all())
    assert len(answers) == 64
    assert all(answers)


def test_more_than_the_queue_holds_is_refused(tmp_path: Path) -> None:
    with _serve("--concurrency", "1", "--queue", "1", policy="scripted?delay=1") as (base, _):

        async def three() -> list[object]:
            async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
                asked = (client.chat.completions.create(model="rstar-greedy", messages=ASK) for _ in range(3))  # type: ignore[call-overload]
                return list(await asyncio.gather(*asked, return_exceptions=True))

        replies = asyncio.run(three())
        refused = [one for one in replies if isinstance(one, openai.RateLimitError)]
        assert len(refused) == 1, replies
        assert refused[0].response.headers["retry-after"] == "5"


def test_a_client_s_run_goes_on_over_a_kill_and_a_restart() -> None:
    answers: list[str | None] = []

    def run(base: str) -> None:
        client = openai.OpenAI(base_url=base, api_key=KEY, max_retries=40)
        for place in range(12):
            messages = [{"role": "user", "content": f"What is {place} + 3?"}]
            reply = client.chat.completions.create(model="rstar-majority-2", messages=messages)  # type: ignore[call-overload]
            answers.append(reply.choices[0].message.content)

    with _serve(policy="scripted?delay=0.1") as (base, process):
        worker = threading.Thread(target=run, args=(base,), daemon=True)
        worker.start()
        deadline = time.monotonic() + 30
        while len(answers) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait(20)
        before = len(answers)
        with pytest.raises(openai.APIConnectionError):
            openai.OpenAI(base_url=base, api_key=KEY, max_retries=0).models.list()
    assert 3 <= before < 12
    with _serve(policy="scripted?delay=0.1", port=int(base.rsplit(":", 1)[1].removesuffix("/v1"))):
        worker.join(60)
        assert not worker.is_alive()
    assert len(answers) == 12
    assert all(answers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "there is no API key"),
        (["--set", "rolouts=3"], "did you mean rollouts"),
        (["--policy", "hf:no/such/folder"], "no/such/folder"),
    ],
)
def test_a_mistake_at_start_is_one_line_of_error(options: list[str], message: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RSTAR_EVAL_SERVE_KEY"}
    command = [sys.executable, "-m", "rstar_eval.cli", "serve", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert message in last
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_told(url: str) -> None:
    port = url.rsplit(":", 1)[1].removesuffix("/v1")
    command = [sys.executable, "-m", "rstar_eval.cli", "serve", "--policy", "scripted", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "can't listen" in done.stderr


def test_the_log_has_one_json_line_a_request_without_the_question() -> None:
    with _serve() as (base, process):
        client = openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)
        client.chat.completions.create(model="rstar-greedy", messages=ASK)  # type: ignore[arg-type]
        time.sleep(0.2)
        assert process.stderr is not None
        text = process.stderr.read() or ""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 200)]
    assert "20 + 3" not in text


def test_a_body_that_drips_in_is_refused() -> None:
    """A client that opens a request and sends its body byte by byte does not hold it open."""
    from rstar_eval.serving.app import _body
    from rstar_eval.serving.request import Refused

    class Dripping:
        async def stream(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    with pytest.raises(Refused, match=r"did not come within 0\.05 s") as caught:
        asyncio.run(_body(Dripping(), 1 << 20, 0.05))  # type: ignore[arg-type]
    assert caught.value.status == 408
