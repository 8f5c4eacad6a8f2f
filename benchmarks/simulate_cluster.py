"""How a run scales from 1 to 512 workers: a simulation with measured service times and failures.

    python benchmarks/ray_speedup.py --json measured.json        # the measurements (two cores, some minutes)
    python benchmarks/simulate_cluster.py measured.json [--output docs/figures/scaling.svg]

What is simulated is what the engine does (rstar_eval/engine): each worker has `width` places for searches; the driver
is one thread that handles a finished search (unpack, store, fsync, hand the next one to the place) in `driver` seconds;
graders take `grade` seconds a problem; a search that waits for its grade still counts as open, and no more are open
than there are places and one more a worker. Workers fail at random times; their searches begin again elsewhere, and
another worker is there after `restart` seconds. The time of a search is drawn from the measured ones.

Two kinds of work: the miniature as it was measured here, and a round of the 747k plan, whose searches take the time
that `rstar-eval plan --preset paper` says (round 2), spread as the measured ones are. Before that the simulation is
held against the measured runs of 1 and 2 workers.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rstar_eval.training import plan as plans

COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
PAPER_WIDTH = 64
WAVES = 747_000 / (512 * PAPER_WIDTH)
"""Searches of the plan a place of 512 workers: smaller clusters are simulated with as many a place."""


@dataclass(frozen=True, slots=True)
class World:
    """The numbers of a simulation, all times in seconds. durations: of searches, to draw from. width: places of a
    worker. driver: handling a finished search. grade, graders: a problem's grading, and how many are graded at once.
    failures: a worker's mean time between failures (0: none). restart: until another worker is there."""

    durations: Sequence[float]
    width: int
    driver: float
    grade: float
    graders: int
    failures: float = 0.0
    restart: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A simulated run: wall seconds, share of it that the driver was busy, mean share of the places that were
    searching, searches begun again."""

    seconds: float
    driver: float
    places: float
    again: int


def simulate(world: World, workers: int, problems: int, seed: int = 0) -> Result:
    """Run `problems` searches on `workers` workers; events in the order of time."""
    rng = random.Random(seed)
    events: list[tuple[float, int, str, int, int]] = []  # time, tie-breaker, kind, worker, the worker's generation
    ticket = 0
    free = [world.width] * workers
    generation = [0] * workers
    left, waiting, open_tasks = problems, 0, 0
    allowed = workers * (world.width + 1)
    driver_free = driver_busy = searching = now = 0.0
    grading: deque[None] = deque()
    graders, done, again = world.graders, 0, 0
    roomy = [(-world.width, i) for i in range(workers)]  # the emptiest worker first
    heapq.heapify(roomy)

    def put(at: float, kind: str, worker: int = -1) -> None:
        nonlocal ticket
        ticket += 1
        heapq.heappush(events, (at, ticket, kind, worker, generation[worker] if worker >= 0 else 0))

    def hand_out() -> None:
        """Begin tasks as far as is allowed, and give waiting ones to free places."""
        nonlocal left, waiting, open_tasks, searching
        while left and open_tasks < allowed:
            left, waiting, open_tasks = left - 1, waiting + 1, open_tasks + 1
        while waiting and roomy:
            count, worker = heapq.heappop(roomy)
            if -count != free[worker] or not free[worker]:
                continue  # an old entry
            waiting -= 1
            free[worker] -= 1
            if free[worker]:
                heapq.heappush(roomy, (-free[worker], worker))
            took = rng.choice(world.durations)
            searching += took
            put(now + took, "searched", worker)

    if world.failures:
        for i in range(workers):
            put(rng.expovariate(1 / world.failures), "failed", i)
    hand_out()
    while done < problems:
        now, _, kind, worker, born = heapq.heappop(events)
        if kind == "searched" and born == generation[worker]:
            driver_free = max(now, driver_free) + world.driver
            driver_busy += world.driver
            put(driver_free, "handled", worker)
        elif kind == "handled":
            if born == generation[worker]:
                free[worker] += 1
                heapq.heappush(roomy, (-free[worker], worker))
            grading.append(None)
        elif kind == "graded":
            graders, done, open_tasks = graders + 1, done + 1, open_tasks - 1
        elif kind == "failed" and done < problems:
            lost = world.width - free[worker]
            again, waiting = again + lost, waiting + lost
            generation[worker] += 1
            free[worker] = 0
            put(now + world.restart, "restarted", worker)
        elif kind == "restarted":
            free[worker] = world.width
            heapq.heappush(roomy, (-world.width, worker))
            put(now + rng.expovariate(1 / world.failures), "failed", worker)
        while grading and graders:
            grading.popleft()
            graders -= 1
            put(now + world.grade, "graded")
        hand_out()
    return Result(now, driver_busy / now, searching / now / (workers * world.width), again)


def check(runs: Sequence[dict[str, Any]], world: World) -> None:
    """Print the simulation beside the measured runs that its numbers come from."""
    for workers in (1, 2):
        real = [one for one in runs if one["workers"] == workers]
        if not real:
            continue
        durations = [d for one in real for d in one["durations"]]
        here = replace(world, durations=durations)
        count = round(statistics.median(one["problems"] for one in real))
        made = statistics.median(count / simulate(here, workers, count, seed).seconds for seed in range(20))
        measured = statistics.median(one["problems"] / one["seconds"] for one in real)
        print(f"check, {workers} worker(s): simulated {made:.3f} problems/s, measured {measured:.3f} "
              f"({made / measured:.2f} times)")  # fmt: skip


def curve(name: str, world: World, waves: float, counts: Sequence[int]) -> list[dict[str, float]]:
    """Simulate all counts of workers, print the curve and return it."""
    print(f"\n{name}: searches of {statistics.mean(world.durations):.3g} s, {world.width} at once a worker; driver "
          f"{1000 * world.driver:.2f} ms a search; a failure each {world.failures / 3600:g} h a worker, "
          f"{world.restart:g} s until another one")  # fmt: skip
    print("workers  problems/s  speed-up  efficiency  places busy  driver busy  begun again")
    rows: list[dict[str, float]] = []
    for workers in counts:
        problems = max(200, round(workers * world.width * waves))
        found = simulate(world, workers, problems)
        rate = problems / found.seconds
        first = rows[0]["rate"] if rows else rate
        row = {
            "workers": workers,
            "rate": rate,
            "speedup": rate / first,
            "driver": found.driver,
            "places": found.places,
        }
        rows.append(row)
        print(f"{workers:7} {rate:11.3f} {row['speedup']:9.1f} {row['speedup'] / workers:11.2f} {found.places:12.2f} "
              f"{found.driver:12.3f} {found.again:12}")  # fmt: skip
    return rows


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw speed-up over workers, both logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "scaling"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    axes.plot(COUNTS, COUNTS, color="0.7", linestyle=":", label="linear")
    for (name, rows), marker in zip(curves.items(), "os^dv", strict=False):
        axes.plot([row["workers"] for row in rows], [row["speedup"] for row in rows], marker=marker, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(COUNTS, [str(one) for one in COUNTS])
    axes.set_yticks(COUNTS, [str(one) for one in COUNTS])
    axes.set_xlabel("workers")
    axes.set_ylabel("speed-up against one worker")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="How a run scales from 1 to 512 workers.")
    parser.add_argument("measured", type=Path, help="what ray_speedup.py --json wrote")
    parser.add_argument("--output", type=Path, help="draw the curve into this file")
    parser.add_argument("--grade", type=float, default=0.05, help="seconds of grading a problem")
    parser.add_argument("--graders", type=int, default=8, help="problems graded at once")
    parser.add_argument("--hours", type=float, default=168.0, help="mean hours between failures of a worker (plan)")
    parser.add_argument("--restart", type=float, default=300.0, help="seconds until a lost worker is replaced (plan)")
    given = parser.parse_args()
    runs = json.loads(given.measured.read_text())["runs"]
    ray = [one for one in runs if one["workers"]]
    width = int(ray[0]["concurrency"])
    searches = sum(one["searches"] for one in ray)
    cpu, fsync = (sum(one[key] for one in ray) / searches for key in ("driver_cpu", "driver_fsync"))
    print(f"measured: driver {1000 * cpu:.2f} ms CPU and {1000 * fsync:.2f} ms fsync a search")
    one_worker = [d for one in ray if one["workers"] == 1 for d in one["durations"]]
    mini = World(one_worker, width, cpu + fsync, given.grade, given.graders)
    check(runs, replace(mini, graders=2))
    facts = plans.paper_facts()
    config = plans.facts_for("paper", None, None)[0]
    cost = plans.plan(config, facts, 2)[1]
    each = cost.tokens / facts.problems / facts.rate * PAPER_WIDTH
    scale = each / statistics.mean(one_worker)
    paper = World([d * scale for d in one_worker], PAPER_WIDTH, mini.driver, given.grade, given.graders,
                  given.hours * 3600, given.restart)  # fmt: skip
    curves = {
        "miniature": curve("miniature", mini, 25, COUNTS),
        "miniature, no fsync": curve("miniature, no fsync a search", replace(mini, driver=cpu), 25, COUNTS),
        "747k plan, round 2": curve("747k plan, round 2", paper, WAVES, COUNTS),
    }
    limit = 1 / mini.driver
    print(f"\nthe driver handles at most {limit:.0f} searches/s; the plan's round 2 on 512 workers brings "
          f"{512 * PAPER_WIDTH / each:.1f}/s")  # fmt: skip
    if given.output:
        draw(curves, given.output)


if __name__ == "__main__":
    main()
