"""Steps per second and core: the executor, caged, against running the whole program again for every candidate.

    python benchmarks/executor/speed.py [--workload FILE.jsonl] [--isolation LEVEL] [--depths 6 14] [--rounds 3]

The baseline is faithful to a solver that executes each candidate after its ancestors in its own process: one shared
dictionary of globals, the ancestors' text joined with the candidate's, output captured, no isolation. It has a process
of its own, so that the harness is not burdened with what it imports and leaves behind. Both sides see
the same candidates in the same order, in turns within one run. Cost is CPU time of all processes of a side (harness,
zygote and workers for ours), so that other jobs on the machine matter little; wall time is shown beside it.
As in a search, the candidates of an expansion are run together, and a step's time is its share of the expansion's; with
--singly each is a request of its own, and has its own time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from workload import Solution, candidates, children_cpu, deepened, solutions

from rstar_eval.solver.executor import Limits, start_executor


@dataclass(frozen=True)
class Run:
    """One pass of the executor: steps, wall and CPU seconds, seconds per step, and its counts."""

    steps: int
    wall: float
    cpu: float
    each: list[float]
    counts: dict[str, int]


async def start_up(options: argparse.Namespace) -> tuple[float, float]:
    """Start and stop an executor that does nothing; returns its wall and CPU seconds."""
    cpu, begun = children_cpu(), time.perf_counter()
    executor = await start_executor(options.isolation, workers=1)
    wall = time.perf_counter() - begun
    await executor.close()
    return wall, children_cpu() - cpu


async def ours(options: argparse.Namespace, items: list[Solution], idle_cpu: float) -> Run:
    """Run the workload in an executor of its own. CPU: harness, forks, workers and their ends; not the start-up."""
    before = children_cpu()
    executor = await start_executor(options.isolation, workers=1, limits=Limits(cpu_seconds=30))
    each: list[float] = []
    begun, harness = time.perf_counter(), time.process_time()
    for item in items:
        session = await executor.open(item.name)
        parent: int | None = None
        for step in item.steps:
            codes = candidates(step)
            if options.singly:
                runs = []
                for code in codes:
                    at = time.perf_counter()
                    runs.append(await session.run(parent, code))
                    each.append(time.perf_counter() - at)
            else:
                at = time.perf_counter()
                runs = await session.run_many(parent, codes)
                each += [(time.perf_counter() - at) / len(codes)] * len(codes)
            if runs[0].status != "ok":
                print("not ok:", item.name, repr(step[:60]), runs[0])
            parent = runs[0].node
        await session.close()
    wall, harness = time.perf_counter() - begun, time.process_time() - harness
    await asyncio.sleep(0.5)  # the zygote reaps the last worker: its CPU time counts
    counts = dict(executor.counts())
    await executor.close()
    return Run(len(each), wall, harness + children_cpu() - before - idle_cpu, each, counts)


def baseline(items: list[Solution]) -> tuple[int, float, float]:
    """Re-run the whole program for every candidate, in this process; returns steps, wall seconds, CPU seconds."""
    warnings.simplefilter("ignore")
    scope: dict[str, object] = {}
    steps = 0
    begun, cpu = time.perf_counter(), time.process_time()
    for item in items:
        before = ""
        for step in item.steps:
            for code in candidates(step):
                with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
                    exec(before + code, scope)  # noqa: S102 - this is what is measured
                steps += 1
            before += step
    return steps, time.perf_counter() - begun, time.process_time() - cpu


async def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", type=Path)
    parser.add_argument("--isolation")
    parser.add_argument("--depths", type=int, nargs="+", default=[6, 14])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singly", action="store_true", help="a request for each candidate, not for each expansion")
    options = parser.parse_args()
    items = solutions(options.workload)
    wall, idle_cpu = await start_up(options)
    print(f"{len(items)} solutions; an executor starts in {wall:.1f} s ({idle_cpu:.1f} s of CPU)")
    others = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    others.submit(baseline, items).result()  # imports, and what the baseline keeps from then on
    print("depth  steps  ours steps/s/core  baseline  ratio (CPU)  ratio (wall)  median ms/step  p95 ms")
    for depth in options.depths:
        deep = deepened(items, depth)
        rows = []
        for _ in range(options.rounds):
            run = await ours(options, deep, idle_cpu)
            n, wall0, cpu0 = others.submit(baseline, deep).result()
            assert n == run.steps
            each = sorted(run.each)
            rows.append((n / run.cpu, n / cpu0, cpu0 / run.cpu, wall0 / run.wall, each[n // 2], each[int(0.95 * n)]))
        mid = [statistics.median(row[k] for row in rows) for k in range(6)]
        print(
            f"{depth:5d} {n:6d} {mid[0]:18.0f} {mid[1]:9.0f} {mid[2]:12.2f} {mid[3]:13.2f}"
            f" {1000 * mid[4]:15.3f} {1000 * mid[5]:7.2f}   {run.counts}"
        )
    others.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
