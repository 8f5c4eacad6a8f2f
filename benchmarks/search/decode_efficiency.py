"""Decode efficiency: tokens a second of a tree search against the same engine's plain batch generation.

    python benchmarks/search/tiny_model.py /tmp/tiny
    python benchmarks/search/decode_efficiency.py 'vllm:/tmp/tiny/policy' --reward 'ppm:/tmp/tiny/reward?engine=vllm'
    python benchmarks/search/decode_efficiency.py 'hf:/tmp/tiny/policy' --reward 'ppm:/tmp/tiny/reward'

Each round does three things in turn, on new problems:

search     MCTS with the reward model and the sandbox; every request to the policy is recorded.
plain      The recorded requests again, all submitted at once to the same engine, with its prefix cache emptied before:
           the same prompts, seeds and stops, so that the same number of tokens comes of prompts of the same lengths.
           No search, no code, no scoring, and nothing waits for anything.
lock-step  The same searches with a barrier: no search goes on until the generation of all of them has ended, as in a
           program that steps all trees together. (Code and scores are not held up: a mild form of lock-step.)

Printed are the medians of the rounds: tokens/s of each, and their ratios to `plain` within the round; where a search's
time goes (the share of it spent waiting for the policy, for code, for scores); CPU seconds of the engines (processes of
vLLM, threads with transformers), of the sandbox and of the rest, which is the search itself; and three ratios of CPU
seconds that say what the wall clock mixes: of the policy's engine alone, of all but the reward model's, and of
everything. `--metrics` adds the policy engine's counters in vLLM (which cost a little time in every
row): the share of prompt tokens found in the prefix cache, and the tokens made in one step of the engine, which says
how full its batch was. Everything runs on the same cores, so that scoring and code take from generation what they need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_model import problem

from rstar_eval.solver.backends import make_policy, parse_policy_spec
from rstar_eval.solver.backends.engine import EnginePolicy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.formats import get_format
from rstar_eval.solver.protocols import Executor, ExecutorSession, Policy, RewardModel
from rstar_eval.solver.reward import make_reward
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Question, SampleRequest, SampleResult, StepRun


@dataclass
class Clock:
    """Seconds that searches spend waiting, by what they wait for, and seconds in which at least one waits for it."""

    waited: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    _open: dict[str, tuple[int, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        count, since = self._open.get(what, (0, began))
        self._open[what] = (count + 1, since if count else began)
        try:
            yield
        finally:
            now = time.perf_counter()
            self.waited[what] = self.waited.get(what, 0.0) + now - began
            count, since = self._open[what]
            self._open[what] = (count - 1, since)
            if count == 1:
                self.busy[what] = self.busy.get(what, 0.0) + now - since


class LockStep:
    """Holds every request until all running searches have one open, and every answer until all are there."""

    def __init__(self, running: int) -> None:
        self.running = running
        self.arrived = 0
        self.ended = self.batch = 0
        self.go, self.done = asyncio.Event(), asyncio.Event()

    def left(self) -> None:
        self.running -= 1
        self._maybe_go()

    def _maybe_go(self) -> None:
        if self.arrived and self.arrived == self.running:
            self.arrived, self.ended, self.batch = 0, 0, self.running
            self.go.set()
            self.go = asyncio.Event()

    async def __call__(self, ask: Any) -> Any:
        go, self.arrived = self.go, self.arrived + 1
        self._maybe_go()
        if not go.is_set():
            await go.wait()
        done, result = self.done, await ask
        self.ended += 1
        if self.ended == self.batch:
            self.done.set()
            self.done = asyncio.Event()
        else:
            await done.wait()
        return result


class WatchedPolicy:
    def __init__(self, policy: Policy, clock: Clock, lock: LockStep | None) -> None:
        self.policy, self.clock, self.lock = policy, clock, lock
        self.name, self.format = policy.name, policy.format
        self.requests: list[SampleRequest] = []

    async def sample(self, request: SampleRequest) -> SampleResult:
        self.requests.append(request)
        with self.clock.waiting("policy"):
            asked = self.policy.sample(request)
            result: SampleResult = await (self.lock(asked) if self.lock else asked)
        return result

    def describe(self) -> Mapping[str, object]:
        return self.policy.describe()

    async def close(self) -> None:
        pass


class WatchedReward:
    def __init__(self, reward: RewardModel, clock: Clock) -> None:
        self.reward, self.clock, self.name = reward, clock, reward.name

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        with self.clock.waiting("scores"):
            return await self.reward.score(question, texts)

    def describe(self) -> Mapping[str, object]:
        return self.reward.describe()

    async def close(self) -> None:
        pass


class WatchedSession:
    """Times whatever the executor's session offers."""

    def __init__(self, session: ExecutorSession, clock: Clock) -> None:
        self.session, self.clock = session, clock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.session, name)

        async def timed(*given: Any, **named: Any) -> Any:
            with self.clock.waiting("code"):
                return await method(*given, **named)

        return timed


class WatchedExecutor:
    def __init__(self, executor: Executor, clock: Clock) -> None:
        self.executor, self.clock, self.level = executor, clock, executor.level

    async def open(self, key: str) -> Any:
        return WatchedSession(await self.executor.open(key), self.clock)


class Nothing:
    """An executor that runs nothing and says that every step printed 1."""

    level = "none"

    async def open(self, key: str) -> Nothing:
        return self

    async def run(self, parent: int | None, code: str) -> StepRun:
        return StepRun(0, "ok", "1\n" if "print" in code else "")

    async def close(self) -> None:
        pass


def by_text(answers: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


class Counters:
    """Sums vLLM's metrics: prompt tokens and those found in the prefix cache, engine steps and the tokens they made. A
    maker of stat loggers and the logger in one."""

    def __init__(self) -> None:
        self.queries = self.hits = self.steps = self.made = 0

    def __call__(self, config: Any, engine_index: int = 0) -> Counters:
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *given: Any, **named: Any) -> None:
        stats = getattr(scheduler_stats, "prefix_cache_stats", None)
        if stats is not None:
            self.queries, self.hits = self.queries + stats.queries, self.hits + stats.hits
        if iteration_stats is not None and iteration_stats.num_generation_tokens:
            self.steps, self.made = self.steps + 1, self.made + iteration_stats.num_generation_tokens

    def take(self) -> dict[str, float]:
        """Return the hit rate and the tokens a step since the last call, and begin anew."""
        found = {"prefix hits": self.hits / max(1, self.queries), "tokens a step": self.made / max(1, self.steps)}
        self.queries = self.hits = self.steps = self.made = 0
        return found

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass

    def record_sleep_state(self, *given: Any) -> None:
        pass


@dataclass
class Setup:
    policy: Policy
    reward: RewardModel | None
    executor: Any
    config: SearchConfig
    width: int


async def run_searches(setup: Setup, questions: Sequence[str], clock: Clock, *, lock_step: bool) -> dict[str, Any]:
    """Search `questions`, `width` at a time; return tokens, seconds and the requests made."""
    width = len(questions) if lock_step else min(setup.width, len(questions))
    lock = LockStep(width) if lock_step else None
    policy = WatchedPolicy(setup.policy, clock, lock)
    reward = WatchedReward(setup.reward, clock) if setup.reward else None
    tools = Tools(policy, WatchedExecutor(setup.executor, clock), reward, by_text)  # type: ignore[arg-type]
    units = iter(questions)

    async def worker() -> int:
        tokens = 0
        for text in units:
            with clock.waiting("searches"):
                result = await search(Question(text[-16:], text), tools, setup.config)
            tokens += result.budget.completion_tokens
        if lock:
            lock.left()
        return tokens

    before, began = cpu_seconds(), time.perf_counter()
    tokens = sum(await asyncio.gather(*(worker() for _ in range(width))))
    seconds = time.perf_counter() - began
    spent = {name: now - before.get(name, 0.0) for name, now in cpu_seconds().items()}
    return {"tokens": tokens, "seconds": seconds, "requests": policy.requests, "cpu": spent}


async def run_plain(setup: Setup, requests: Sequence[SampleRequest]) -> dict[str, Any]:
    """Submit all requests at once."""
    before, began = cpu_seconds(), time.perf_counter()
    results = await asyncio.gather(*(setup.policy.sample(one) for one in requests))
    seconds = time.perf_counter() - began
    spent = {name: now - before.get(name, 0.0) for name, now in cpu_seconds().items()}
    completions = [one for result in results for one in result.completions]
    tokens = sum(one.tokens for one in completions)
    prompts = [result.prompt_tokens for result in results]
    return {"tokens": tokens, "seconds": seconds, "cpu": spent, "prompts": prompts, "completions": len(completions)}


THREADS = {"rstar-eval-decoder": "policy engine", "rstar-eval-scorer": "reward engine"}
"""The threads that are engines of the transformers backend."""


def cpu_seconds() -> dict[str, float]:
    """Return CPU seconds of this process and, by kind, of all that descend from it and live."""
    tick = os.sysconf("SC_CLK_TCK")
    inside: dict[str, float] = {}
    for thread in threading.enumerate():
        if thread.name in THREADS:
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
            inside[THREADS[thread.name]] = (int(fields[11]) + int(fields[12])) / tick
    parents: dict[int, int] = {}
    spent: dict[int, tuple[str, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            line = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        spent[pid] = (name if "python" not in name else line, (int(fields[11]) + int(fields[12])) / tick)
    totals = {"this process": -sum(inside.values()), **inside}
    engines: list[tuple[int, float]] = []
    for pid, (line, seconds) in spent.items():
        at = pid
        while at > 1 and at != os.getpid():
            at = parents.get(at, 0)
        if at == os.getpid():
            kind = "this process" if pid == at else "sandbox"
            if "VLLM" in line or "spawn" in line:
                engines.append((pid, seconds))
            else:
                totals[kind] = totals.get(kind, 0.0) + seconds
    # The policy's engine is started first. With tensor parallelism each has further processes: then they are one sum.
    named = ("policy engine", "reward engine") if len(engines) <= 2 else ("engines",) * len(engines)
    for kind, (_, seconds) in zip(named, sorted(engines), strict=False):
        totals[kind] = totals.get(kind, 0.0) + seconds
    return totals


async def empty_cache(policy: Policy) -> None:
    reset = getattr(getattr(policy, "engine", None), "reset_cache", None)
    if reset is not None:
        await reset()


async def start(arguments: argparse.Namespace, counters: Counters | None) -> Setup:
    if counters is not None:
        from rstar_eval.solver.backends import vllm_engine

        engine, _ = await vllm_engine.load(parse_policy_spec(arguments.policy), [counters])
        policy: Policy = EnginePolicy(arguments.policy, get_format("rstar"), engine)
    else:
        policy = await make_policy(arguments.policy, format="rstar")
    reward = await make_reward(arguments.reward) if arguments.reward else None
    width = arguments.width or int(getattr(policy, "concurrency", 8))
    executor: Any = Nothing()
    if not arguments.no_sandbox:
        from rstar_eval.solver.executor import start_executor

        executor = await start_executor(live_workers=max(64, width, arguments.problems) + 8)
    config = SearchConfig(
        rollouts=arguments.rollouts,
        candidates=arguments.candidates,
        parallel_rollouts=arguments.parallel_rollouts,
        max_step_tokens=96,
        temperature=1.0,
        top_p=1.0,
    )
    return Setup(policy, reward, executor, config, width)


async def main(arguments: argparse.Namespace) -> None:
    counters = Counters() if arguments.metrics else None
    setup = await start(arguments, counters)
    rng = random.Random(arguments.seed)
    profile = cProfile.Profile() if arguments.profile else None
    rounds: list[dict[str, Any]] = []
    try:
        await run_searches(setup, [problem(rng)[0] for _ in range(4)], Clock(), lock_step=False)  # warm
        ending = time.monotonic() + 60 * arguments.minutes
        for _ in range(arguments.repeats):
            if rounds and time.monotonic() > ending:
                break
            questions = [problem(rng)[0] for _ in range(arguments.problems)]
            rounds.append(await one_round(setup, questions, counters, profile, len(rounds) < arguments.lock_step))
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    finally:
        await setup.policy.close()
        for one in (setup.reward, None if arguments.no_sandbox else setup.executor):
            if one is not None:
                await one.close()
    report(arguments, setup, rounds)
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


async def one_round(
    setup: Setup,
    questions: Sequence[str],
    counters: Counters | None,
    profile: cProfile.Profile | None,
    lock_step: bool,
) -> dict[str, Any]:
    clock = Clock()
    await empty_cache(setup.policy)
    taken = {}
    if counters:
        counters.take()
    if profile:
        profile.enable()
    found = await run_searches(setup, questions, clock, lock_step=False)
    if profile:
        profile.disable()
    if counters:
        taken["search"] = counters.take()
    await empty_cache(setup.policy)
    plain = await run_plain(setup, found["requests"])
    if counters:
        taken["plain"] = counters.take()
    row: dict[str, Any] = {
        "search": found["tokens"] / found["seconds"],
        "plain": plain["tokens"] / plain["seconds"],
        "tokens": [found["tokens"], plain["tokens"]],
        "seconds": [found["seconds"], plain["seconds"]],
        "requests": len(found["requests"]),
        "prompt tokens": statistics.mean(plain["prompts"]),
        "step tokens": plain["tokens"] / plain["completions"],
        "waits": {name: clock.waited[name] / clock.waited["searches"] for name in clock.waited if name != "searches"},
        "busy": {name: seconds / found["seconds"] for name, seconds in clock.busy.items() if name != "searches"},
        "cpu": {"search": found["cpu"], "plain": plain["cpu"]},
        "metrics": taken,
        "load": os.getloadavg()[0],
    }
    if lock_step:
        await empty_cache(setup.policy)
        held = await run_searches(setup, questions, Clock(), lock_step=True)
        row["lock-step"] = held["tokens"] / held["seconds"]
        row["lock-step tokens"] = held["tokens"]  # as many as the search's, which row["tokens"] holds
        row["cpu"]["lock-step"] = held["cpu"]
        if counters:
            taken["lock-step"] = counters.take()
    return row


def cpu_of(row: Mapping[str, Any], which: str, left_out: str | None) -> float:
    """Return the CPU seconds a token of the policy's engine (`left_out` None), or of all kinds but `left_out`."""
    spent = row["cpu"][which]
    seconds = spent["policy engine"] if left_out is None else sum(spent.values()) - spent.get(left_out, 0.0)
    return float(seconds) / row["tokens"][1 if which == "plain" else 0]


def report(arguments: argparse.Namespace, setup: Setup, rounds: Sequence[dict[str, Any]]) -> None:
    def middle(values: Iterator[float]) -> str:
        known = list(values)
        return f"{statistics.median(known):.3g} ({min(known):.3g} to {max(known):.3g})"

    print(f"{arguments.policy}; reward {arguments.reward}; sandbox {'off' if arguments.no_sandbox else 'on'}")
    print(
        f"{arguments.problems} problems, {setup.width} at once, {arguments.rollouts} rollouts, {arguments.candidates} "
        f"candidates; {len(rounds)} rounds; {len(os.sched_getaffinity(0))} CPUs, load average of the last minute "
        f"{middle(row['load'] for row in rounds)}"
    )
    for name in ("tokens", "requests", "prompt tokens", "step tokens"):
        print(f"  {name}: {middle(row[name][0] if name == 'tokens' else row[name] for row in rounds)}")
    for name in ("search", "plain", "lock-step"):
        measured = [row for row in rounds if name in row]
        if measured:
            ratio = middle(row[name] / row["plain"] for row in measured)
            print(f"{name:>10}: {middle(row[name] for row in measured)} tokens/s; against plain {ratio}")
    for title, key in (
        ("share of a search's time spent waiting for", "waits"),
        ("share of the run in which one is open", "busy"),
    ):
        print(f"{title}: " + ", ".join(f"{name} {middle(row[key][name] for row in rounds)}" for name in rounds[0][key]))
    for which, kinds in rounds[0]["cpu"].items():
        measured = [row["cpu"][which] for row in rounds if which in row["cpu"]]
        text = ", ".join(f"{name} {middle(spent.get(name, 0.0) for spent in measured)}" for name in kinds)
        print(f"CPU seconds, {which}: {text}")
    # The first is the ratio where the policy's engine shares its core or GPU with nothing else, the last where all
    # share one core; the second leaves out what scoring computes: it is what the search itself costs.
    for title, left_out in (
        ("policy's engine", None), ("all but the reward engine", "reward engine"), ("everything", "")
    ):  # fmt: skip
        for which, kinds in rounds[0]["cpu"].items():
            if which != "plain" and (left_out is not None or "policy engine" in kinds):
                measured = [row for row in rounds if which in row["cpu"]]
                ratio = middle(cpu_of(row, "plain", left_out) / cpu_of(row, which, left_out) for row in measured)
                print(f"tokens a CPU second of {title}, {which}, against plain: {ratio}")
    for which, found in rounds[0]["metrics"].items():
        print(
            f"policy engine, {which}: "
            + ", ".join(f"{n} {middle(r['metrics'][which][n] for r in rounds if which in r['metrics'])}" for n in found)
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy")
    parser.add_argument("--reward")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--width", type=int, default=0, help="problems at once (default: what the policy likes)")
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--parallel-rollouts", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60, help="no round begins later than this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument(
        "--lock-step", type=int, nargs="?", default=0, const=sys.maxsize, metavar="N",
        help="measure the barrier variant too, in the first N rounds (no N: in all)",
    )  # fmt: skip
    parser.add_argument("--metrics", action="store_true", help="vLLM's prefix-cache counters")
    parser.add_argument("--profile", action="store_true", help="of this process, while it searches")
    asyncio.run(main(parser.parse_args()))
