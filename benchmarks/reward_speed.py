"""How many solution prefixes a reward model scores a second, on the solutions of a stored run.

    python benchmarks/reward_speed.py RUN SPEC [--rounds 5] [--problems 20] [--against OTHER]

Every prefix of every trajectory of a problem is scored in one request, several problems at once, as a search asks for
scores. Printed: scores a second of wall time and of this process's CPU time, medians over the rounds; with --against
also how far the scores are from those of another spec, e.g. the same model on another engine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path

from rstar_eval.records import read_log
from rstar_eval.solver.reward import make_reward
from rstar_eval.store import read_manifest
from rstar_eval.tasks import load_task

AT_ONCE = 8


async def measure(run: Path, spec: str, rounds: int, problems: int) -> list[float]:
    """Print the rates and return the scores."""
    tasks = [entry.get("task_file", name) for name, entry in read_manifest(run)["data"].items()]
    questions = {one.id: one.text for name in tasks for one in load_task(name).problems}
    texts: dict[str, list[str]] = {}
    for record in list(read_log(run).searches.values())[:problems]:
        prefixes = dict.fromkeys(
            "".join(step.text for step in one.steps[: n + 1])
            for one in record.trajectories
            for n in range(len(one.steps))
        )
        texts[record.problem] = list(prefixes)
    asked = sum(len(one) for one in texts.values())
    reward = await make_reward(spec)
    limit = asyncio.Semaphore(AT_ONCE)

    async def score(problem: str) -> list[float]:
        async with limit:
            return await reward.score(questions[problem], texts[problem])

    walls, cpus = [], []
    scores: list[list[float]] = []
    try:
        for _ in range(rounds + 1):
            wall, cpu = time.monotonic(), time.process_time()
            scores = await asyncio.gather(*(score(problem) for problem in texts))
            walls.append(asked / (time.monotonic() - wall))
            cpus.append(asked / (time.process_time() - cpu))
    finally:
        await reward.close()
    wall_rate, cpu_rate = statistics.median(walls[1:]), statistics.median(cpus[1:])  # the first one warms up
    print(
        f"{spec}: {asked} prefixes, {wall_rate:.0f} scores/s of wall time, {cpu_rate:.0f} of CPU time ({rounds} rounds)"
    )
    return [value for one in scores for value in one]


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores a second of a reward model.")
    parser.add_argument("run", type=Path)
    parser.add_argument("spec")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--against")
    given = parser.parse_args()
    found = asyncio.run(measure(given.run, given.spec, given.rounds, given.problems))
    if given.against:
        others = asyncio.run(measure(given.run, given.against, given.rounds, given.problems))
        apart = [abs(one - other) for one, other in zip(found, others, strict=True)]
        print(f"scores from {min(found):.3f} to {max(found):.3f}; apart at most {max(apart):.1e}")


if __name__ == "__main__":
    main()
