"""Bytes a node and MB a worker.

    python benchmarks/executor/memory.py [--workload FILE.jsonl] [--isolation LEVEL] [--nodes 2000]

A worker's memory is read from outside (as root: /proc/PID/smaps_rollup): what is its own (private, dirty), and what it
shares with the zygote. Nodes are made as siblings in one worker; bytes a node is the growth of the private part.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from pathlib import Path
from typing import Any

from workload import solutions

from rstar_eval.solver.executor import Limits, start_executor


def memory(pid: int) -> dict[str, int]:
    """Return a process's memory in KiB by kind."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0])
    return found


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", type=Path)
    parser.add_argument("--isolation")
    parser.add_argument("--nodes", type=int, default=2000)
    options = parser.parse_args()
    executor = await start_executor(options.isolation, workers=1, limits=Limits(nodes=options.nodes + 100))
    private, total = [], []
    for item in solutions(options.workload):
        session: Any = await executor.open(item.name)
        parent = None
        for step in item.steps:
            parent = (await session.run(parent, step)).node
        used = memory(session._runner.main.worker.pid)
        private.append(used["Private_Dirty"] / 1024)
        total.append(used["Rss"] / 1024)
        await session.close()
    print(
        f"a worker after one solution: {statistics.median(private):.1f} MB of its own (largest {max(private):.1f}), ",
        end="",
    )
    print(f"{statistics.median(total):.0f} MB with what it shares with the zygote")
    for name, prefix in [
        ("plain numbers and lists", "a = 1\nb = [1, 2, 3]\nc = {'x': 2}"),
        ("from sympy import *", "from sympy import *\nx, y = symbols('x y')\ne = x**2 + y"),
    ]:
        session = await executor.open(name)
        root = await session.run(None, prefix)
        await session.run(root.node, "z = 0")
        before = memory(session._runner.main.worker.pid)["Private_Dirty"]
        for number in range(options.nodes):
            await session.run(root.node, f"value_{number} = {number}")
        grown = memory(session._runner.main.worker.pid)["Private_Dirty"] - before
        print(f"a node, {name}: {1024 * grown / options.nodes:.0f} bytes")
        await session.close()
    await executor.close()


asyncio.run(main())
