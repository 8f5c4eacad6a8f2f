"""Nodes per second of the search engine with a scripted policy and trivial code, on one core.

    python benchmarks/search/engine_speed.py [--problems 1 16 256] [--repeats 5] [--no-sandbox] [--profile]

What is measured is all but the model: selection, expansion, parsing, running each candidate's code in the sandbox,
scoring by a scripted reward model, back-propagation. All processes share one core. Every round runs each number of
problems once, so that the figures of one row come from the same minutes; the row printed is the median, with the
smallest and the largest. Beside wall time stands CPU time (harness, zygote and workers, their forks and ends included):
nodes per second of CPU are what one core gives that nobody else uses.
`--no-sandbox` replaces the executor by a double that runs nothing: the engine alone. `--profile` says where the CPU
time went: by process, and within the harness by function.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.solver.backends.scripted import Candidate, ScriptedPolicy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.reward.scripted import ScriptedReward, noise
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Question, SampleRequest, SearchResult, StepRun

AUTHORS_NODES_PER_SECOND = 73
"""The authors' code on such candidates, measured once on a machine of this kind (not in this run)."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What one round of one size took: nodes made, wall seconds, CPU seconds of the harness and of all it started."""

    nodes: int
    wall: float
    harness: float
    children: float

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes."""
        return self.harness + self.children


def children_cpu() -> float:
    """Return the CPU seconds of all processes under this one, ended ones included."""
    below: dict[int, list[tuple[int, int]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            below.setdefault(int(fields[1]), []).append((int(entry), sum(map(int, fields[11:15]))))
    total, parents = 0, [os.getpid()]
    while parents:
        for pid, ticks in below.get(parents.pop(), ()):
            total += ticks
            parents.append(pid)
    return total / TICKS


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


async def grow(problems: int, tools: Tools, config: SearchConfig, start: int) -> Cost:
    """Search `problems` problems at once."""
    children, harness, began = children_cpu(), time.process_time(), time.perf_counter()
    results: list[SearchResult] = await asyncio.gather(
        *(search(Question(f"q{start + i}", f"q{start + i}"), tools, config, keep_tree=True) for i in range(problems))
    )
    wall, harness = time.perf_counter() - began, time.process_time() - harness
    nodes = sum(len(one.tree["nodes"]) for one in results if one.tree is not None)  # type: ignore[arg-type]
    await asyncio.sleep(0.3)  # the last workers end and are reaped: their CPU time counts
    return Cost(nodes, wall, harness, children_cpu() - children)


async def main(arguments: argparse.Namespace) -> None:
    config = SearchConfig(rollouts=arguments.rollouts, candidates=8)
    executor: Any = Nothing()
    if not arguments.no_sandbox:
        from rstar_eval.solver.executor import start_executor

        # As many workers as problems, as `rstar-eval` asks for: with fewer, states are rebuilt at every step.
        executor = await start_executor(live_workers=max(64, *arguments.problems))
    tools = Tools(
        ScriptedPolicy("scripted", RStarFormat(), script, {}), executor, ScriptedReward("noise", noise), by_text
    )
    costs: dict[int, list[Cost]] = {problems: [] for problems in arguments.problems}
    profile = cProfile.Profile() if arguments.profile else None
    try:
        await grow(2, tools, config, 10**6)  # warm
        start = 0
        for _ in range(arguments.repeats):
            for problems in arguments.problems:
                # One problem is over in a tenth of a second: as many one after another as make a figure.
                parts = [Cost(0, 0.0, 0.0, 0.0)]
                for _ in range(max(1, arguments.least // problems)):
                    if profile:
                        profile.enable()
                    parts.append(await grow(problems, tools, config, start))
                    if profile:
                        profile.disable()
                    start += problems
                costs[problems].append(added(parts))
    finally:
        counts = executor.counts() if hasattr(executor, "counts") else {}
        await executor.close()
    print(f"isolation {executor.level}; {arguments.repeats} rounds; {config.rollouts} rollouts, 8 candidates; one core")
    print("problems at once   nodes/s (smallest, largest)   nodes/s of CPU   to 73   CPU in harness")
    for problems, found in costs.items():
        walls = [cost.nodes / cost.wall for cost in found]
        cpu = statistics.median(cost.nodes / cost.cpu for cost in found)
        share = statistics.median(cost.harness / cost.cpu for cost in found)
        print(
            f"{problems:16d}   {statistics.median(walls):7.0f} ({min(walls):.0f}, {max(walls):.0f})".ljust(49)
            + f"{cpu:14.0f} {cpu / AUTHORS_NODES_PER_SECOND:7.1f} {share:16.0%}"
        )
    print("executor:", dict(counts), f"load {os.getloadavg()[0]:.1f}")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def added(costs: list[Cost]) -> Cost:
    """Return the sum of several costs."""
    return Cost(*(sum(getattr(cost, name) for cost in costs) for name in ("nodes", "wall", "harness", "children")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Engine speed without a model.")
    parser.add_argument("--problems", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--least", type=int, default=16, help="problems a figure is made of, at least")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument("--profile", action="store_true")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(parser.parse_args()))
