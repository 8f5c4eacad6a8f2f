"""What `rstar-eval grade` calls: grading a file of labelled or unlabelled pairs."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rstar_eval.errors import UserError
from rstar_eval.grading.graders import GRADERS, grade
from rstar_eval.grading.limits import Tolerance
from rstar_eval.grading.types import Grade

_KEYS = ("gold", "pred")


@dataclass(frozen=True, slots=True)
class Pair:
    """One labelled or unlabelled pair of a file."""

    id: str | int
    gold: str
    pred: str
    label: bool | None
    kind: str
    task: str | None


def grade_pairs(path: str, grader: str, out: TextIO, err: TextIO, decimal_relative: float = 0.0) -> int:
    """Grade the pairs of a JSON Lines file ("-": standard input).

    A line has `gold` and `pred`, and may have `label` (true: equivalent), `id` (else the line's number), `kind` and
    `task`. Writes one JSON line a pair to `out`: {"id", "verdict", "rule", "ms"}; to `err` each malformed line by its
    number, and a table by kind if any pair has a label. Returns the exit status: 0, or 1 if a line was malformed.
    decimal_relative: see `Tolerance`.

    Raises UserError if there is no such grader, the tolerance is out of range or the file can't be read.
    """
    GRADERS[grader]
    tolerance = Tolerance(decimal_relative=decimal_relative)
    malformed = 0
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    total = 0.0
    for number, pair in _lines(path):
        if isinstance(pair, str):
            malformed += 1
            print(f"line {number}: {pair}", file=err)
            continue
        given = grade(pair.gold, pair.pred, task=pair.task, grader=grader, tolerance=tolerance)
        total += given.ms
        line: dict[str, Any] = {
            "id": pair.id,
            "verdict": given.outcome,
            "rule": given.rule,
            "ms": round(given.ms, 4),
        }
        if given.detail:
            line["detail"] = given.detail
        print(json.dumps(line), file=out, flush=True)
        if pair.label is not None:
            tally(tallies[pair.kind], pair.label, given)
    if tallies:
        print(table(tallies, total), file=err)
    if malformed:
        print(f"{malformed} malformed line{'s' if malformed > 1 else ''} skipped", file=err)
    return 1 if malformed else 0


def _lines(path: str) -> Iterator[tuple[int, Pair | str]]:
    """Yield (line number from 1, a pair, or what is wrong with the line)."""
    if path == "-":
        yield from _read_lines(sys.stdin.buffer)
        return
    try:
        with Path(path).open("rb") as handle:
            yield from _read_lines(handle)
    except OSError as error:
        fix = "give a JSON Lines file, or - for standard input"
        raise UserError(f"can't read pairs from {path!r}: {error.strerror}", fix) from None


def _read_lines(handle: Iterable[bytes]) -> Iterator[tuple[int, Pair | str]]:
    for number, raw in enumerate(handle, 1):
        if raw.strip():
            yield number, read_pair(raw, number)


def read_pair(raw: bytes, number: int) -> Pair | str:
    """Read one line; return what is wrong with it if it is malformed."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    if not isinstance(record, dict):
        return f"not a JSON object but {type(record).__name__}"
    for key in _KEYS:
        if key not in record:
            return f"no {key!r}"
        if not isinstance(record[key], str) and not (key == "pred" and record[key] is None):
            return f"{key!r} is {type(record[key]).__name__}, not a string"
    label = record.get("label")
    if label is not None and label not in (0, 1):
        return f"'label' is {label!r}, not true or false"
    task = record.get("task")
    if task is not None and not isinstance(task, str):
        return f"'task' is {type(task).__name__}, not a string"
    given = record.get("id")
    name = given if isinstance(given, str | int) else str(number if given is None else given)
    kind = record.get("kind")
    return Pair(
        name,
        record["gold"],
        record["pred"] or "",
        None if label is None else bool(label),
        "" if kind is None else str(kind),
        task,
    )


def tally(counts: Counter[str], label: bool, given: Grade) -> None:
    """Count one labelled verdict: n, equal, unequal, false_positive, false_negative, grader_error, no_answer."""
    correct = given.outcome == "correct"
    counts["n"] += 1
    counts["equal" if label else "unequal"] += 1
    counts["false_positive"] += correct and not label
    counts["false_negative"] += label and not correct
    counts[given.outcome] += 1


def table(tallies: Mapping[str, Counter[str]], milliseconds: float) -> str:
    """Write the counts by kind as text: one row a kind (pairs without one have none of their own) and one for all."""
    total: Counter[str] = Counter()
    for counts in tallies.values():
        total.update(counts)
    rows = [("kind", "pairs", "accuracy", "false +", "false -", "errors", "no answer")]
    for kind, counts in [*sorted((kind, counts) for kind, counts in tallies.items() if kind), ("all", total)]:
        wrong = counts["false_positive"] + counts["false_negative"]
        rows.append(
            (
                kind,
                str(counts["n"]),
                f"{100 * (1 - wrong / counts['n']):.1f} %",
                f"{counts['false_positive']}/{counts['unequal']}",
                f"{counts['false_negative']}/{counts['equal']}",
                str(counts["grader_error"]),
                str(counts["no_answer"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(
        [*lines, f"{total['n']} labelled pairs, {milliseconds / max(1, total['n']):.3f} ms a pair on average"]
    )
