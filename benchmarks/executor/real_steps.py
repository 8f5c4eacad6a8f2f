"""The steps that a model really wrote: how many are strict, what that costs, and whether fast and strict path agree.

    python benchmarks/executor/real_steps.py RUN [RUN ...] [--steps 1000] [--isolation LEVEL] [--rounds 3]

RUN: folders of runs made by `rstar-eval`, with any model. The solutions of a problem are merged into a tree of steps,
which is run as a search would: the children of a node together, a failed step leaving no trace. Every step is run

- as it is (fast or strict as the static check decides), - with every step strict, in a worker of its own, and
- the authors' way: each step after the text of all the steps before it, in one dictionary of globals. That happens in
  the cage too, as one step a problem: what a model wrote is run nowhere else.

Printed: the share of strict steps and why; steps per second of CPU time of the three; every difference between the
first two. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workload import children_cpu

from rstar_eval.solver.executor import Limits, StepExecutor, start_executor
from rstar_eval.solver.executor.cage.analysis import analyse
from rstar_eval.solver.types import StepRun
from rstar_eval.trees import read_trees

AUTHORS_WAY = """
import contextlib, io, json, time
programs, scope, done = json.loads(TEXT), {}, 0
begun = time.process_time()
for before, code in programs:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(before + code, scope)
        except BaseException:
            pass
    done += 1
print(done, time.process_time() - begun)
"""
MOST_TEXT = 20_000


@dataclass
class Place:
    """A step in the tree: its code, and what follows it."""

    code: str
    below: dict[str, Place] = field(default_factory=dict)


@dataclass
class Side:
    """What one way of running gave: every run by place, and its CPU seconds but for those of steps that ran out of
    time, which are the limit's and not the way's."""

    runs: dict[int, StepRun]
    cpu: float
    counts: dict[str, int]


def written_steps(folder: Path) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Yield what a run's policy wrote: a problem, and the steps of one path with whether each ran. Every node of a
    stored tree is the end of one path; without trees, every solution is one."""
    if not (folder / "trajectories.jsonl").exists():
        sys.exit(f"error: {folder} holds no run that finished a problem; give folders made by rstar-eval")
    trees = False
    for stored in read_trees(folder):
        trees = True
        paths: dict[str, list[tuple[str, bool]]] = {}
        for node in stored.nodes:
            tag = str(node["tag"])
            code = str(node.get("code", ""))
            above = paths.get(tag.rpartition(".")[0], [])
            paths[tag] = [*above, (code, node.get("status") == "ok")] if code.strip() else above
            if code.strip():
                yield f"{stored.task}/{stored.problem}", paths[tag]
    if trees:
        return
    for line in (folder / "trajectories.jsonl").read_text().splitlines():
        record = json.loads(line)
        for trajectory in record["trajectories"]:
            steps = [(step["code"], step["status"] == "ok") for step in trajectory["steps"] if step["code"].strip()]
            yield f"{record['task']}/{record['problem']}", steps


def trees_of(folders: list[Path], most: int) -> dict[str, Place]:
    """Merge what several runs wrote into one tree a problem, until there are `most` different steps."""
    trees: dict[str, Place] = {}
    total = 0
    for folder in folders:
        for key, steps in written_steps(folder):
            at = trees.setdefault(key, Place(""))
            for code, ran in steps:
                total += code not in at.below
                place = at.below.setdefault(code, Place(code))
                at = place if ran else at
            if total >= most:
                return trees
    return trees


def places(root: Place) -> Iterator[Place]:
    """Yield all steps under `root`, parents first."""
    stack = list(root.below.values())
    while stack:
        place = stack.pop()
        yield place
        stack.extend(place.below.values())


async def run_tree(executor: StepExecutor, key: str, root: Place, *, strict: bool) -> dict[int, StepRun]:
    """Run a problem's tree; returns the runs by the identity of the place."""
    session = await executor.open(key, always_strict=strict)
    runs: dict[int, StepRun] = {}
    level: list[tuple[int | None, Place]] = [(None, root)]
    while level:
        node, place = level.pop()
        below = list(place.below.values())
        for child, run in zip(below, await session.run_many(node, [child.code for child in below]), strict=True):
            runs[id(child)] = run
            if child.below:
                level.append((run.node, child))
    await session.close()
    return runs


async def run_side(options: argparse.Namespace, trees: dict[str, Place], idle: float, *, strict: bool) -> Side:
    """Run all trees in an executor of their own; CPU: harness, forks, workers and their ends, without the start-up."""
    before = children_cpu()
    executor = await start_executor(options.isolation, workers=1, limits=Limits(cpu_seconds=options.seconds))
    harness = time.process_time()
    runs: dict[int, StepRun] = {}
    for key, root in trees.items():
        runs |= await run_tree(executor, key, root, strict=strict)
    harness = time.process_time() - harness
    await asyncio.sleep(0.5)  # the zygote reaps the last worker: its CPU time counts
    counts = dict(executor.counts())
    await executor.close()
    lost = sum(run.cpu_seconds for run in runs.values() if run.status not in ("ok", "error"))
    return Side(runs, harness + children_cpu() - before - idle - lost, counts)


async def authors_way(options: argparse.Namespace, trees: dict[str, Place], slow: set[int]) -> tuple[int, float]:
    """Run every step after the text of its ancestors, inside the cage; returns steps and CPU seconds. Steps that ran
    out of time (`slow`) are left out: nothing would end them."""
    executor = await start_executor(options.isolation, workers=1, limits=Limits(cpu_seconds=600))
    steps, cpu = 0, 0.0
    for key, root in trees.items():
        programs: list[tuple[str, str]] = []
        stack = [("", place) for place in root.below.values()]
        while stack:
            before, place = stack.pop()
            if id(place) not in slow:
                programs.append((before, place.code))
                stack.extend((before + place.code, child) for child in place.below.values())
        while programs:
            part = [programs.pop()]
            while programs and len(json.dumps([*part, programs[-1]])) < MOST_TEXT:
                part.append(programs.pop())
            session = await executor.open(key)
            run = await session.run(None, AUTHORS_WAY.replace("TEXT", repr(json.dumps(part))))
            await session.close()
            done, seconds = run.output.split() or ("0", "0")
            if int(done) != len(part):
                print(f"the authors' way stopped in {key}: {run.status} {run.error_type} {run.error}")
            steps, cpu = steps + int(done), cpu + float(seconds)
    await executor.close()
    return steps, cpu


def compare(trees: dict[str, Place], fast: Side, strict: Side) -> int:
    """Print every difference between two ways and return their number. Addresses of objects never agree."""

    def shown(run: StepRun) -> tuple[str, str, str, str]:
        address = re.compile(r"0x[0-9a-f]{8,}")
        return run.status, address.sub("0x", run.output), run.error_type, address.sub("0x", run.error)

    found = 0
    for key, root in trees.items():
        for place in places(root):
            left, right = fast.runs[id(place)], strict.runs[id(place)]
            if shown(left) != shown(right):
                found += 1
                print("DIFFERENT", key, repr(place.code), shown(left), shown(right), sep="\n  ")
    return found


async def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--isolation")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU limit of a step")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    trees = trees_of(options.runs, options.steps)
    all_places = [place for root in trees.values() for place in places(root)]
    found = [analyse(place.code) for place in all_places]
    unread = sum(one.error is not None for one in found)
    reasons = Counter(re.sub(r"(imports|attribute|name|class) .*", r"\1", one.strict) for one in found if one.strict)
    details = Counter(one.strict for one in found if one.strict)
    strict_steps = sum(details.values())
    print(f"{len(trees)} problems, {len(all_places)} different steps, of which {unread} do not parse")
    print(f"strict: {strict_steps} = {strict_steps / len(all_places):.1%}; why: {dict(reasons.most_common())}")
    print(f"  most often: {dict(details.most_common(8))}")

    before = children_cpu()
    await (await start_executor(options.isolation, workers=1)).close()
    idle = children_cpu() - before
    rates: list[tuple[float, float, float]] = []
    shares: list[float] = []
    for _ in range(options.rounds):
        fast = await run_side(options, trees, idle, strict=False)
        strict = await run_side(options, trees, idle, strict=True)
        slow = {place for place, run in fast.runs.items() if run.status not in ("ok", "error")}
        steps, cpu = await authors_way(options, trees, slow)
        shares.append(1000 * fast.cpu / len(trees))
        rates.append((len(fast.runs) / fast.cpu, len(strict.runs) / strict.cpu, steps / cpu))
    print("statuses:", dict(Counter(run.status for run in fast.runs.values())), "executor:", fast.counts)
    rate, rate_strict, rate_authors = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(row[0] / row[2] for row in rates)
    print(f"steps/s of CPU, median of {options.rounds}: as they are {rate:.0f}, all strict {rate_strict:.0f}, ", end="")
    print(f"the authors' way {rate_authors:.0f}; as they are to the authors' way {ratio:.1f}; CPU a problem ", end="")
    print(f"{statistics.median(shares):.0f} ms")
    differences = compare(trees, fast, strict)
    print(f"{len(all_places)} steps compared on fast and strict path, {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
