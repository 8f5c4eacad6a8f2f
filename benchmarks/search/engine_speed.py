"""Nodes per second of the search engine with a scripted policy and trivial code, on one core.

    python benchmarks/search/engine_speed.py [--problems 1 16 256] [--repeats 5] [--no-sandbox] [--profile]

What is measured is all but the model: selection, expansion, parsing, running each candidate's code in the sandbox,
scoring by a scripted reward model, back-propagation. Every round runs each number of problems once, so that the
figures of one row come from the same minutes; the row printed is the median, with the smallest and the largest.
`--no-sandbox` replaces the executor by a double that runs nothing: the engine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import random
import statistics
import time
from typing import Any

from rstar_eval.solver.backends.scripted import Candidate, ScriptedPolicy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.reward.scripted import ScriptedReward, noise
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Question, SampleRequest, SearchResult, StepRun

AUTHORS_NODES_PER_SECOND = 73
"""The authors' code on such candidates, measured once on a machine of this kind (not in this run)."""


def script(request: SampleRequest, i: int) -> Candidate:
    """Write trivial steps: assign an integer, print one, or answer with one."""
    rng = random.Random(f"{request.seed}|{i}")
    if request.prefix.endswith("<end_of_output>"):
        return f"\n<answer>From the result, the answer is \\boxed{{{rng.randrange(6)}}}.", "<end_of_answer>"
    opening = "" if request.prefix else "<code>"
    step = request.prefix.count("<end_of_step>")
    if rng.random() < 0.3:
        return f"{opening}\n# Now print the final answer\nprint({rng.randrange(6)})\n", "<end_of_code>"
    return f"{opening}\n# Step {step + 1}\nx{step} = {rng.randrange(6)}\n", "<end_of_step>"


class Nothing:
    """An executor that runs nothing."""

    level = "none"

    async def open(self, key: str) -> Nothing:
        return self

    async def run(self, parent: int | None, code: str) -> StepRun:
        return StepRun(0, "ok", "1\n" if "print" in code else "")

    def describe(self) -> dict[str, object]:
        return {"level": self.level}

    async def close(self) -> None:
        pass


def by_text(answers: Any) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


async def grow(problems: int, tools: Tools, config: SearchConfig, start: int) -> tuple[int, float]:
    """Search `problems` problems at once; return the number of nodes and the seconds."""
    began = time.perf_counter()
    results: list[SearchResult] = await asyncio.gather(
        *(search(Question(f"q{start + i}", f"q{start + i}"), tools, config, keep_tree=True) for i in range(problems))
    )
    seconds = time.perf_counter() - began
    return sum(len(one.tree["nodes"]) for one in results if one.tree is not None), seconds  # type: ignore[arg-type]


async def main(arguments: argparse.Namespace) -> None:
    config = SearchConfig(rollouts=arguments.rollouts, candidates=8)
    executor: Any = Nothing()
    if not arguments.no_sandbox:
        from rstar_eval.solver.executor import start_executor

        # One worker a problem must stay alive: with fewer, states are rebuilt at every step and speed collapses.
        executor = await start_executor(live_workers=max(64, *arguments.problems) + 8)
    tools = Tools(
        ScriptedPolicy("scripted", RStarFormat(), script, {}), executor, ScriptedReward("noise", noise), by_text
    )
    rates: dict[int, list[float]] = {problems: [] for problems in arguments.problems}
    profile = cProfile.Profile() if arguments.profile else None
    try:
        await grow(2, tools, config, 10**6)  # warm
        start = 0
        for _ in range(arguments.repeats):
            for problems in arguments.problems:
                if profile:
                    profile.enable()
                nodes, seconds = await grow(problems, tools, config, start)
                if profile:
                    profile.disable()
                start += problems
                rates[problems].append(nodes / seconds)
    finally:
        await executor.close()
    print(f"isolation {executor.level}; {arguments.repeats} rounds; {config.rollouts} rollouts, 8 candidates")
    for problems, found in rates.items():
        middle = statistics.median(found)
        print(
            f"{problems:4d} problems at once: {middle:7.0f} nodes/s (median; {min(found):.0f} to {max(found):.0f}), "
            f"{middle / AUTHORS_NODES_PER_SECOND:.0f} times {AUTHORS_NODES_PER_SECOND}"
        )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Engine speed without a model.")
    parser.add_argument("--problems", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument("--profile", action="store_true")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(parser.parse_args()))
