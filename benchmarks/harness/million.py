"""A synthetic run of a million problems: how long it takes to open, filter and summarise it, and with how much memory.

    python benchmarks/harness/million.py make FOLDER [--problems 1000000] [--trajectories 8]   # about 4 GB
    python benchmarks/harness/million.py measure FOLDER [STEP ...]      # index open filter summarise compact ledger

Each step is a process of its own, so that its peak memory is its own. The problems' outcomes, groups and sizes vary as
those of a real run do; the texts are short and alike, which makes parsing as much work as it is and the files small.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rstar_eval.records import Graded, GradeRecord, Timing, search_line
from rstar_eval.serial import to_data
from rstar_eval.solver.types import Budget, SearchResult, Step, Trajectory
from rstar_eval.store import GRADES, TRAJECTORIES
from rstar_eval.store_lines import encode

MANIFEST = {
    "schema": 1,
    "config": {"rollouts": 8, "trees": 1, "strategy": "mcts", "candidates": 4, "max_depth": 16, "temperature": 0.8},
    "config_hash": "synthetic",
    "data": {"synthetic": {"source": {"kind": "synthetic", "sha256": "0" * 64}, "problems": 0, "errata": 0}},
    "policy": {"policy": "synthetic"},
    "reward": None,
    "grader": {"name": "default", "version": "3"},
    "sessions": [{"isolation": "strong", "start": "-", "ended": "finished"}],
}
TEMPLATES = 500
STEPS = ("index", "open", "filter", "summarise", "compact", "ledger")


def make(folder: Path, problems: int, trajectories: int) -> None:
    """Write the run's logs: the lines of some hundred different problems, each with its own id and checksum."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    lines = [[pieces(one) for one in one_problem(rng, trajectories)] for _ in range(TEMPLATES)]
    began = time.monotonic()
    with open(folder / TRAJECTORIES, "wb") as search_log, open(folder / GRADES, "wb") as grade_log:
        for number in range(problems):
            search, grade = lines[rng.randrange(TEMPLATES)]
            search_log.write(numbered(search, number))
            grade_log.write(numbered(grade, number))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    sizes = [(folder / name).stat().st_size for name in (TRAJECTORIES, GRADES)]
    print(f"{problems} problems of {trajectories} trajectories: {sizes[0] / 1e9:.2f} + {sizes[1] / 1e9:.2f} GB "
          f"in {time.monotonic() - began:.0f} s")  # fmt: skip


def pieces(record: dict[str, Any]) -> list[bytes]:
    """A record's line without its checksum, cut where its problem's id and index stand."""
    body = encode(record | {"problem": "@", "index": -7})[: -len(b',"crc":"01234567"}\n')]
    head, rest = body.split(b'"@"')
    return [head, *rest.split(b"-7", 1)]


def numbered(parts: list[bytes], number: int) -> bytes:
    """The line of one problem, with its checksum."""
    body = b'%b"%016x"%b%d%b' % (parts[0], number * 2654435761 % 2**64, parts[1], number, parts[2])
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def one_problem(rng: random.Random, trajectories: int) -> tuple[dict[str, Any], dict[str, Any]]:
    skill = rng.random()
    verdicts, paths = [], []
    for number in range(trajectories):
        group = None if rng.random() < 0.05 else 0 if rng.random() < skill else rng.randint(1, 4)
        outcome = "no_answer" if group is None else "correct" if group == 0 else "wrong"
        verdicts.append(Graded(group, outcome, "integer"))
        steps = tuple(
            Step(
                f"# step {i}\nx{i} = {rng.randint(1, 99)} * {rng.randint(1, 99)}\n",
                "code",
                f"x{i}",
                "",
                "ok",
                "",
                31,
                0.5,
            )
            for i in range(rng.randint(1, 3))
        )
        answer = None if group is None else str(group)
        paths.append(Trajectory(steps, "answer" if answer else "depth", answer, rng.random(), 0, number))
    spent = Budget(9, 4000, 900, 30, 24, 22, rng.random())
    search = search_line("synthetic", 0, SearchResult("0" * 16, 0, tuple(paths), spent), Timing(0, 1.0, 2.5))
    outcome = rng.choices(["correct", "wrong", "no_answer"], [skill, 0.9 - 0.9 * skill, 0.1])[0]
    level = str(rng.randint(1, 5))
    choice = {"rule": "majority", "k": None, "votes": [["0", 5.0]], "trajectory": 0}
    record = GradeRecord(
        "synthetic", "0" * 16, 0, "default", "3", "0", outcome, "integer", choice, tuple(verdicts), level, "Algebra"
    )
    return search, to_data(record)


def index(run: Path) -> str:
    from rstar_eval.store_index import Index

    (run / "index.sqlite").unlink(missing_ok=True)
    with Index(run) as made:
        return f"made of {made.added} lines; {(run / 'index.sqlite').stat().st_size / 1e6:.0f} MB"


def opened(run: Path) -> str:
    from rstar_eval.store_index import Index

    with Index(run) as made:
        return f"{made.added} lines had to be read"


def filtered(run: Path) -> str:
    from rstar_eval.store_index import Index

    with Index(run) as made:
        found = sum(1 for _ in made.grades("synthetic", ("default", "3"), outcome="wrong", level="5"))
    return f"{found} problems of level 5 are wrong"


def summarised(run: Path) -> str:
    from rstar_eval.summary import summarise

    (task,) = summarise(run).tasks
    return f"n {task.n}, accuracy {task.accuracy:.4f}, maj@{task.curve[-1].k} {task.curve[-1].maj_at_k:.4f}"


def compacted(run: Path) -> str:
    from rstar_eval.compact import compact

    return "; ".join(f"{one.path.name} {one.bytes / 1e9:.2f} GB of {one.logs / 1e9:.2f}" for one in compact(run))


def ledger(run: Path) -> str:
    from rstar_eval.ledger import read_ledger

    return f"resuming: {len(read_ledger(run, 'default', '3').outcomes)} graded problems known"


MEASURED: dict[str, Callable[[Path], str]] = {
    "index": index, "open": opened, "filter": filtered, "summarise": summarised, "compact": compacted, "ledger": ledger
}  # fmt: skip


def measure(run: Path, steps: list[str]) -> None:
    for step in steps or STEPS:
        subprocess.run([sys.executable, __file__, "step", str(run), step], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "measure", "step"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--trajectories", type=int, default=8)
    given = parser.parse_args()
    if given.what == "make":
        shutil.rmtree(given.folder, ignore_errors=True)
        make(given.folder, given.problems, given.trajectories)
    elif given.what == "measure":
        measure(given.folder, given.steps)
    else:
        began, spent = time.perf_counter(), time.process_time()
        said = MEASURED[given.steps[0]](given.folder)
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{given.steps[0]:10} {seconds:7.2f} s, {spent:7.2f} of CPU, peak {peak:5.0f} MB: {said}", flush=True)


if __name__ == "__main__":
    main()
