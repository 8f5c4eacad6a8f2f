"""Start the executor's zygote many times, some killed half-way, and count what came of it.

    python benchmarks/executor/starts.py [--starts 500] [--isolation strong good]

Every start must end as a verified cage or as an error; a worker of each cage that comes up attacks it. Every fifth is
killed at another moment of its first tenth of a second. Prints the counts; exit code 1 if a cage was open, if a start
that was left alone failed, or if a process is left over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

from workload import descendants

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import Limits
from rstar_eval.solver.executor.levels import LAYERS, Level, as_level
from rstar_eval.solver.executor.pool import Pool
from rstar_eval.solver.executor.session import Session
from rstar_eval.solver.executor.zygote_client import CageError, start_zygote

ATTACK = """
import os, socket
done = 0
for act in (socket.socket, os.fork, lambda: open('/tmp/x', 'w'), lambda: os.listdir('/'), lambda: os.kill(1, 9)):
    try:
        act()
        done += 1
    except OSError:
        pass
print(done)
"""


async def start(level: Level, number: int) -> str:
    """Start one zygote; returns what came of it."""
    task = asyncio.ensure_future(start_zygote(level, Limits(), bare=True))
    doomed = number % 5 == 4
    if doomed:
        await asyncio.sleep(0.01 + 0.001 * (number % 97))
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    try:
        client = await task
    except (CageError, BackendError) as error:
        return "killed while it started" if doomed else f"refused: {error}"
    if client.lost or doomed:
        await client.close()
        return "killed when it was up"

    async def never() -> Any:
        raise BackendError("no restart here")

    pool = Pool([client], never, 1, 1)
    run = await Session("x", pool, Limits()).run(None, ATTACK)
    await pool.close()
    layers = {layer.name for layer in client.layers} == set(LAYERS[level])
    return "held" if run.output == "0\n" and layers else f"OPEN: {run}"


async def main() -> int:
    """Start, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=500)
    parser.add_argument("--isolation", nargs="+", default=["strong", "good"])
    options = parser.parse_args()
    levels = [as_level(name) for name in options.isolation]
    counts: Counter[str] = Counter()
    for number in range(options.starts):
        counts[await start(levels[number % len(levels)], number)] += 1
    deadline = time.monotonic() + 20
    while (left := descendants()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    print(f"{options.starts} starts at {' and '.join(levels)}: {dict(counts)}; left over: {left}")
    fine = {"held", "killed while it started", "killed when it was up"}
    return 0 if set(counts) <= fine and not left else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
