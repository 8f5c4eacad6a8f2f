"""The default grader's own time on labelled pairs, cold, apart from what else runs on the machine.

    python benchmarks/grading/default_speed.py PAIRS.jsonl

Each pair is graded five times with empty caches; its time is the least of the five by the wall clock. The processor
time a pair is of whole rounds. The exact match is warm, the least of 200 rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from rstar_eval.grading import grade
from rstar_eval.grading.fingerprint import _at, free, rational
from rstar_eval.grading.read import clear_cache

ROUNDS = 5


def main() -> None:
    pairs = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines() if line.strip()]
    pairs = [pair for pair in pairs if pair["kind"] != "hostile"]
    grade(r"\sin x", "x")  # load mpmath
    least = [float("inf")] * len(pairs)
    processor = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for index, pair in enumerate(pairs):
            clear_cache()
            for cached in (_at, free, rational):
                cached.cache_clear()
            start = time.perf_counter()
            grade(pair["gold"], pair["pred"])
            least[index] = min(least[index], 1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - begin) / len(pairs))
    least.sort()
    mean = statistics.median(processor)
    print(
        f"{len(pairs)} pairs: median {statistics.median(least):.3f} ms, p99 {least[int(0.99 * len(least))]:.2f} ms, ",
        end="",
    )
    print(f"max {least[-1]:.1f} ms; {mean:.2f} ms of processor time a pair, {1000 / mean:.0f} pairs a second of it")
    exact = min(timed_exact() for _ in range(200))
    print(f"a warm exact match: {exact:.2f} microseconds")


def timed_exact(count: int = 200) -> float:
    start = time.perf_counter()
    for _ in range(count):
        grade(r"\frac{1}{2}", r"\frac{1}{2}")
    return 1e6 * (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
