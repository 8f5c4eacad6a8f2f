"""What `rstar-eval fsck` found in a run, for programs and for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rstar_eval.store_segment import QUARANTINE
from rstar_eval.visible import visible

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong somewhere: its kind (see KINDS), the file (relative to the run; "" if none), the line's number or
    the byte, what it is, and what a repair does about it ("" if none can)."""

    kind: str
    file: str
    where: int
    text: str
    repair: str


@dataclass(slots=True)
class Report:
    """What fsck saw. records: lines by log, trees too. unchecked: lines from before there were checksums.
    without_tree: searches without a stored tree, in a run that has trees. live: whether a process was writing the run
    meanwhile, so that what it was at may look torn or missing."""

    run: str
    records: dict[str, int] = field(default_factory=dict)
    unchecked: int = 0
    without_tree: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: bool = False
    live: bool = False

    def machine(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"schema": 1, **asdict(self), "left": [asdict(one) for one in self.left]}

    @property
    def left(self) -> list[Finding]:
        """What is not in order now."""
        return [one for one in self.findings if not (self.repaired and one.repair)]


KINDS = {
    "torn": "a last line or tree that was being written when its process was killed",
    "damaged": "a line or a tree whose bytes have changed",
    "changed": "a log that is not what it was when it was closed, though its lines are whole: lines are missing",
    "duplicate": "a search or grade that is there twice",
    "unfit grade": "a grade that does not fit the searches that are there",
    "missing grade": "a problem all of whose searches are there, without a grade of the run's grader",
    "orphan tree": "a tree whose search is not there",
}


def print_report(report: Report, console: Console, listed: int = 50) -> None:
    """Print what was seen: counts by kind, then at most `listed` findings one by one."""

    def say(text: str) -> None:
        console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    say(
        f"{report.run}: {', '.join(f'{count} in {name}' for name, count in report.records.items()) or 'nothing stored'}"
    )
    if report.live:
        say("the run is being written: what is under way may look torn or missing")
    if report.unchecked:
        say(f"{report.unchecked} lines have no checksum (written before there were any): only their form was looked at")
    counts = Counter(one.kind for one in report.findings)
    for kind, count in ((kind, counts[kind]) for kind in KINDS if counts[kind]):
        say(f"{count} {kind}: {KINDS[kind]}")
    for one in report.findings[:listed]:
        done = one.repair if report.repaired else f"with --repair: {one.repair}" if one.repair else ""
        say(f"  {one.kind} {one.file}{f':{one.where}' if one.file else ''} {one.text} -> {done or 'stays'}")
    if len(report.findings) > listed:
        say(f"  and {len(report.findings) - listed} more (--json has them all)")
    if not report.findings:
        say("whole: nothing lost, nothing doubled, every grade fits")
    elif report.repaired:
        say(f"repaired: what was taken out lies in {QUARANTINE}; what is to be done again the run's command does")
    else:
        say("nothing was changed")
