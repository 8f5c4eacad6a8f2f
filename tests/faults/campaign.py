"""What every fault has in common: a small run, how it is started and ended, and what is compared afterwards.

The measure is an undisturbed run of the same command. After a fault and its recovery (the same command again, or
`fsck --repair` first where bytes were changed) the run must hold the same searches, grades and trees, each once, and
give the same figures; times alone may differ.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_eval.fsck import fsck
from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines, segments
from rstar_eval.summary import summarise
from rstar_eval.trees import read_trees

CHILD = Path(__file__).with_name("child.py")
PROBLEMS = 12
SETTINGS = ("--task", "mini_math", "--rollouts", "2", "--trees", "2", "--keep-trees", "--limit", str(PROBLEMS))
POLICY = "scripted?format=rstar&delay=0.03"
INTERRUPTED, MISTAKE = 130, 2


@dataclass(slots=True)
class Tally:
    """A fault's row: how often it was dealt, and what was lost, doubled or wrong in all runs that it was dealt to."""

    fault: str
    times: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    note: str = ""
    details: list[str] = field(default_factory=list)

    def row(self) -> tuple[str | int, ...]:
        return (self.fault, self.times, self.lost, self.doubled, self.wrong, self.note)


@dataclass(frozen=True, slots=True)
class Content:
    """What a run holds: how often each record of each kind is there, and its figures."""

    records: dict[str, Counter[tuple[Any, ...]]]
    bodies: dict[tuple[str, tuple[Any, ...]], str]
    figures: dict[str, Any]


def content(run: Path) -> Content:
    records: dict[str, Counter[tuple[Any, ...]]] = {"search": Counter(), "grade": Counter(), "tree": Counter()}
    bodies: dict[tuple[str, tuple[Any, ...]], str] = {}

    def add(kind: str, key: tuple[Any, ...], body: object) -> None:
        records[kind][key] += 1
        bodies[(kind, key)] = json.dumps(body, sort_keys=True)

    for one in read_lines(run, TRAJECTORIES):
        add("search", (one["problem"], one["tree"]), comparable(one))
    for one in read_lines(run, GRADES):
        add("grade", (one["problem"], one["grader"], one["version"]), one)
    for tree in read_trees(run):
        add("tree", (tree.problem, tree.tree), tree.data)
    (task,) = summarise(run).tasks
    figures = {**task.machine(), "seconds": 0, "curve": str(task.curve), "levels": str(task.levels), "ends": task.ends}
    return Content(records, bodies, figures)


class Campaign:
    """A folder for the runs of one fault, the undisturbed run, and the fault's own random numbers."""

    def __init__(self, fault: str, folder: Path, calm: Content, rng: random.Random, times: int) -> None:
        self.folder, self.calm, self.rng, self.times = folder, calm, rng, times
        self.tally = Tally(fault)
        self.policy, self.settings = POLICY, SETTINGS
        self.prefix: tuple[str, ...] = ()

    def start(self, run: Path, *more: str, child: str | None = None) -> subprocess.Popen[str]:
        """Start the run's command; with `child` in a process that misbehaves in that way (child.py)."""
        entry = [str(CHILD), child, str(self.rng.randrange(10**6))] if child else ["-m", "rstar_eval.cli"]
        command = [*self.prefix, sys.executable, *entry, *self.settings, "--policy", self.policy, *more]
        return subprocess.Popen(
            [*command, "--output", str(run)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str], *codes: int, tracebacks: bool = False) -> str:
        """Wait for the process; it must end with one of `codes` and, unless they are allowed, without tracebacks."""
        try:
            text, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"{self.tally.fault}: the run hung") from None
        assert process.returncode in codes, f"{self.tally.fault}: exit code {process.returncode}\n{text}"
        assert tracebacks or "Traceback" not in text, text
        if process.returncode == MISTAKE:
            assert text.splitlines()[-1].startswith("error: "), text
        return text

    def finish(self, run: Path, *more: str) -> None:
        """Give the same command again, undisturbed, and judge what the run holds then."""
        self.end(self.start(run, *more), 0)
        self.judge(run)

    def judge(self, run: Path) -> None:
        """Compare a run with the undisturbed one, and let fsck look at it."""
        found, tally = content(run), self.tally
        for kind, wanted in self.calm.records.items():
            there = found.records[kind]
            tally.lost += (lost := len(wanted.keys() - there.keys()))
            tally.doubled += (doubled := sum(there.values()) - len(there))
            wrong = [key for key in there if found.bodies[(kind, key)] != self.calm.bodies.get((kind, key))]
            tally.wrong += len(wrong)
            if lost or doubled or wrong:
                tally.details.append(f"{run.name}: {kind}: {lost} lost, {doubled} doubled, {len(wrong)} wrong")
        if found.figures != self.calm.figures:
            tally.wrong += 1
            tally.details.append(f"{run.name}: figures {found.figures} instead of {self.calm.figures}")
        if findings := fsck(run).findings:
            tally.wrong += len(findings)
            tally.details.append(f"{run.name}: fsck {findings[:3]}")

    def wait_for_searches(self, process: subprocess.Popen[str], run: Path, more: int) -> None:
        """Wait until the run has `more` searches than now, or ends."""
        wanted, deadline = searches(run) + more, time.monotonic() + 60
        while process.poll() is None and searches(run) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)

    def moment(self, process: subprocess.Popen[str], run: Path) -> None:
        """Wait for a random moment of a session: now and then while it starts, mostly in the middle of its work."""
        if self.rng.random() < 0.2:
            time.sleep(self.rng.uniform(0.0, 2.0))
        else:
            self.wait_for_searches(process, run, self.rng.randint(0, 4))
            time.sleep(self.rng.uniform(0.0, 0.1))

    def dealt(self, process: subprocess.Popen[str], deal: Callable[[], None]) -> bool:
        """Deal the fault if the process still runs, and count it."""
        if process.poll() is not None:
            return False
        deal()
        self.tally.times += 1
        return True


def searches(run: Path) -> int:
    """How many searches a run has stored, in all its segments."""
    return sum(log.read_bytes().count(b"\n") for log in segments(run, TRAJECTORIES))


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    import os

    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has ended by itself meanwhile
        return


def descendants(pid: int) -> dict[int, tuple[int, str]]:
    """Return the parent and the command line of every process below `pid`."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            parents[int(entry.name)] = (int(parent), command)
    found: dict[int, tuple[int, str]] = {}
    grown = True
    while grown:
        new = {one: what for one, what in parents.items() if one not in found and (what[0] == pid or what[0] in found)}
        found.update(new)
        grown = bool(new)
    return found


def table(tallies: list[Tally]) -> str:
    from tabulate import tabulate

    return tabulate([one.row() for one in tallies], ("fault", "times", "lost", "doubled", "wrong", "note"), "github")
