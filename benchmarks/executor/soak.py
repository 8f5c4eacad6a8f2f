"""Run steps for a long time and watch memory, processes and descriptors.

    python benchmarks/executor/soak.py --seconds 1800 [--workload FILE.jsonl] [--isolation LEVEL]

Prints a line every `--every` seconds: steps so far, resident memory of harness and zygote, live workers, descriptors.
Ends with exit code 1 if harness memory grew by more than 20 % (and 20 MB) after the first tenth, or if anything is left
over after closing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from pathlib import Path

from workload import candidates, descendants, solutions

from rstar_eval.solver.executor import Limits, start_executor

HOSTILE = [
    "import os\nos._exit(1)",
    "import os\nos.close(3)",
    "import sympy\nsympy.solve = None",
    "x = bytearray(10**12)",
]


def resident(pid: int) -> float:
    """Resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", type=Path)
    parser.add_argument("--isolation")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--problems", type=int, default=8, help="problems open at once")
    options = parser.parse_args()
    items = solutions(options.workload)
    executor = await start_executor(options.isolation, limits=Limits(cpu_seconds=10))
    end = time.monotonic() + options.seconds
    steps = 0

    async def problems(seed: int) -> None:
        nonlocal steps
        rng = random.Random(seed)
        while time.monotonic() < end:
            item = rng.choice(items)
            session = await executor.open(item.name)
            parent = None
            for step in item.steps:
                if seed % 2:
                    runs = await session.run_many(parent, candidates(step))
                else:
                    runs = [await session.run(parent, code) for code in candidates(step)]
                steps += len(runs)
                parent = runs[0].node
                if rng.random() < 0.02:
                    await session.run(parent, rng.choice(HOSTILE))
                    steps += 1
            await session.close()

    async def watch() -> list[float]:
        sizes = []
        while time.monotonic() < end:
            await asyncio.sleep(min(options.every, max(0.1, end - time.monotonic())))
            sizes.append(resident(os.getpid()))
            trees = descendants()
            zygote = max((resident(pid) for pid in trees), default=0)
            handles = len(os.listdir("/proc/self/fd"))
            print(f"{steps} steps, harness {sizes[-1]:.1f} MB, largest child {zygote:.1f} MB, ", end="")
            print(f"{len(trees)} processes, {handles} descriptors", flush=True)
        return sizes

    sizes, *_ = await asyncio.gather(watch(), *(problems(seed) for seed in range(options.problems)))
    counts = dict(executor.counts())
    await executor.close()
    await asyncio.sleep(0.5)
    left = descendants()
    early = max(sizes[: max(1, len(sizes) // 10)])
    grown = sizes[-1] > 1.2 * early and sizes[-1] > early + 20
    print(f"{steps} steps in {options.seconds:.0f} s; harness {early:.1f} -> {sizes[-1]:.1f} MB; left over: {left}")
    print(counts)
    return 1 if grown or left else 0


sys.exit(asyncio.run(main()))
