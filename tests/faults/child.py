"""`python child.py KIND SEED ARGUMENTS...`: the command line in a process whose world misbehaves.

KIND: clock (the wall clock jumps by up to a year, back and forth), slow (writes go in small pieces and take their time,
so does every fsync), memory (no more address space than is in use, from a random moment on).
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any


def jump(rng: random.Random) -> None:
    """Let time.time and time.time_ns and what datetime makes of them jump; the monotonic clock goes on, as it does in a
    real jump. (datetime.now reads the clock in C: its class is replaced.)"""
    import datetime

    now, start = time.time, time.monotonic()
    shifts = [(rng.uniform(0, 6), rng.uniform(-1, 1) * 3.2e7) for _ in range(12)]

    def shifted() -> float:
        return now() + sum(by for at, by in shifts if time.monotonic() - start >= at)

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(shifted(), tz)

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)
    datetime.datetime = Jumping  # type: ignore[misc]


def slow_down(rng: random.Random) -> None:
    write, sync = os.write, os.fsync

    def slowly(descriptor: int, data: Any) -> int:
        time.sleep(rng.uniform(0, 0.002))
        return write(descriptor, data[: rng.randint(1, 4000)])

    def synced(descriptor: Any) -> None:
        time.sleep(rng.uniform(0, 0.03))
        sync(descriptor)

    os.write, os.fsync = slowly, synced


def squeeze(rng: random.Random) -> None:
    """Once the run has begun to write, cap the address space at what is in use, and take what is free in it."""
    held: list[bytearray] = []

    def later() -> None:
        run = Path(sys.argv[sys.argv.index("--output") + 1])
        while not (run / "trajectories.jsonl").exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used, resource.getrlimit(resource.RLIMIT_AS)[1]))
        for size in (1 << 20, 1 << 16, 1 << 12):
            with contextlib.suppress(MemoryError):
                while True:
                    held.append(bytearray(size))

    threading.Thread(target=later, daemon=True).start()


if __name__ == "__main__":
    kind, seed = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    {"clock": jump, "slow": slow_down, "memory": squeeze}[kind](random.Random(seed))
    from rstar_eval.cli import main

    main()
