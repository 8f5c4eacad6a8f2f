"""A load test of `rstar-eval serve` on loopback: many clients at once, some of them impatient, against one server.

python benchmarks/serving/load.py [--policy SPEC] [--requests 256] [--clients 64] [--gone 0.2] [--kill]

Starts a server (64 waiting requests at most), sends `requests` questions from `clients` concurrent clients of the
official openai package with retries (a full queue answers 429 with Retry-After), half of them streaming; a share `gone`
of the clients goes away in the middle. With --kill the server is killed and started again on the same port half way.
Prints requests a second, the latencies' quartiles, and the server's own counts; exit code 1 if a patient client got no
answer, or if searches are still running at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import httpx
import openai

KEY = "load-test"


@dataclass
class Counts:
    seconds: list[float] = field(default_factory=list)
    gone: int = 0
    again: int = 0
    failed: list[str] = field(default_factory=list)


def start(policy: str, port: int, concurrency: int) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it and its address once it listens."""
    command = [sys.executable, "-m", "rstar_eval.cli", "serve", "--policy", policy, "--port", str(port)]
    command += ["--concurrency", str(concurrency), "--queue", "64"]
    environment = {**os.environ, "RSTAR_EVAL_SERVE_KEY": KEY}
    log = tempfile.TemporaryFile("a+")  # noqa: SIM115  a pipe that nobody reads would fill up, and hold up the server
    process = subprocess.Popen(command, stderr=log, text=True, env=environment)
    while process.poll() is None:
        time.sleep(0.05)
        log.seek(0)
        if match := re.search(r"^listening on (http://\S+)$", log.read(), flags=re.M):
            return process, match[1]
    raise SystemExit("the server did not start")


async def ask(
    client: openai.AsyncOpenAI, place: int, model: str, gone: float, counts: Counts, again: bool = False
) -> None:
    """One question, its answer or the client's leave. The package does not repeat a stream that breaks off after it
    has begun (the server was killed): then the question is asked `again`, once."""
    chance = random.Random(place)
    leaves, stream = chance.random() < gone, chance.random() < 0.5
    messages = [{"role": "user", "content": f"What is {place} + {chance.randrange(1000)}?"}]
    began = time.monotonic()
    try:
        work = client.chat.completions.create(model=model, messages=messages, stream=stream)  # type: ignore[call-overload]
        if leaves:
            try:
                await asyncio.wait_for(work, 0.02)
            except (TimeoutError, openai.APITimeoutError):
                counts.gone += 1
                return
        reply = await work if not leaves else None
        if reply is not None and stream:
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])
        elif reply is not None:
            text = reply.choices[0].message.content
        else:
            return
        if not text:
            raise ValueError("an empty answer")
        counts.seconds.append(time.monotonic() - began)
    except (openai.APIConnectionError, httpx.RemoteProtocolError, httpx.ReadError) as error:
        if stream and not again:
            counts.again += 1
            await ask(client, place, model, 0.0, counts, again=True)
            return
        counts.failed.append(f"{type(error).__name__}: {error}"[:200])
    except (openai.OpenAIError, httpx.HTTPError, ValueError) as error:
        counts.failed.append(f"{type(error).__name__}: {error}"[:200])


async def load(url: str, options: argparse.Namespace, counts: Counts, restart: object) -> None:
    """Send all questions, `clients` at a time."""
    gate = asyncio.Semaphore(options.clients)
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=40, timeout=300) as client:

        async def one(place: int) -> None:
            async with gate:
                if place == options.requests // 2 and callable(restart):
                    await asyncio.to_thread(restart)
                await ask(client, place, options.model, options.gone, counts)

        await asyncio.gather(*(one(place) for place in range(options.requests)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="scripted")
    parser.add_argument("--model", default="rstar-majority-2")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--gone", type=float, default=0.2)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    process, url = start(options.policy, 0, options.concurrency)
    port, counts = int(url.rsplit(":", 1)[1].removesuffix("/v1")), Counts()

    def restart() -> None:
        nonlocal process
        process.kill()
        process.wait()
        process, _ = start(options.policy, port, options.concurrency)

    began = time.monotonic()
    try:
        asyncio.run(load(url, options, counts, restart if options.kill else None))
        seconds = time.monotonic() - began
        time.sleep(1)
        health = httpx.get(url.removesuffix("/v1") + "/health").json()
        metrics = httpx.get(url.removesuffix("/v1") + "/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    quartiles = [round(one, 2) for one in statistics.quantiles(counts.seconds, n=4)]
    print(
        f"{len(counts.seconds)} answered, {counts.gone} went away, {len(counts.failed)} failed, "
        f"{counts.again} streams broke off and were asked again, in {seconds:.1f} s"
    )
    print(f"{len(counts.seconds) / seconds:.1f} answers/s; latency quartiles {quartiles} s; health {health}")
    print(*(line for line in metrics.splitlines() if line.startswith("rstar_requests_total")), sep="\n")
    print(*counts.failed[:5], sep="\n")
    return 1 if counts.failed or health["running"] or health["waiting"] else 0


if __name__ == "__main__":
    sys.exit(main())
