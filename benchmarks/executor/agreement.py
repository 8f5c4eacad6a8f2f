"""Do the fast and the strict path agree? Every step is run on both, and each difference is printed.

    python benchmarks/executor/agreement.py --workload FILE.jsonl [--steps 1000] [--isolation LEVEL]

The strict side runs each step in a worker of its own after all its ancestors, in order, in a fresh namespace. Steps are
the workload's candidates. Compared: status, output, error type and message.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path

from workload import candidates, deepened, solutions

from rstar_eval.solver.executor import Limits, start_executor


async def main() -> None:
    """Compare and print the differences and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", type=Path)
    parser.add_argument("--isolation")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    executor = await start_executor(options.isolation, limits=Limits(cpu_seconds=30))
    compared, differences = 0, 0
    statuses: Counter[str] = Counter()
    for item in deepened(solutions(options.workload), 6):
        fast = await executor.open(item.name)
        strict = await executor.open(item.name, always_strict=True)
        at_fast = at_strict = None
        for step in item.steps:
            first = None
            for code in candidates(step):
                left = await fast.run(at_fast, code)
                right = await strict.run(at_strict, code)
                if first is None:
                    first = (left.node, right.node)
                compared += 1
                statuses[left.status] += 1
                same = [
                    getattr(left, name) == getattr(right, name) for name in ("status", "output", "error_type", "error")
                ]
                if not all(same):
                    differences += 1
                    print(item.name, repr(code), left, right, sep="\n  ")
            assert first is not None
            at_fast, at_strict = first
        await fast.close()
        await strict.close()
        if compared >= options.steps:
            break
    print(f"{compared} steps compared ({dict(statuses)}), {differences} differences; {dict(executor.counts())}")
    await executor.close()


asyncio.run(main())
