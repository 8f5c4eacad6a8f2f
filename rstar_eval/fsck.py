"""`rstar-eval fsck RUN`: is a stored run whole, and the mend for what is not.

Looked for in every segment: torn last lines, lines that are damaged (no JSON, or their checksum does not fit), logs
that are not what they were when they were closed (digests.json), searches and grades that occur twice, grades that do
not fit their searches, complete problems without a grade; trees that are torn, damaged, double or of no search. Nothing
is written unless a repair is asked for. A repair takes out of the logs what can't be trusted, after it has put the
very bytes into quarantine.jsonl; the run's command then does again what they held. Grades that are missing are made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rstar_eval.errors import UserError
from rstar_eval.fsck_report import Finding, Report
from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, RunStore, Segment, folders, read_manifest, writing_error
from rstar_eval.store_index import INDEX
from rstar_eval.store_lines import RawLine, decode, raw_lines
from rstar_eval.store_segment import DIGESTS, LOCK, digest_of, read_digests
from rstar_eval.trees import TREES, next_tree, read_record, tree_places, unpack

SearchKey = tuple[str, str, int]
GradeKey = tuple[str, str, str, str]
TreeKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record lies: file, line number (of a tree: 0), first byte and the byte after its last; how many
    trajectories or verdicts it has."""

    file: Path
    number: int
    start: int
    stop: int
    size: int = 0


@dataclass(slots=True)
class _Look:
    """One look at a run: the report, where each record lies, and what a repair would take out, with the reason."""

    run: Path
    report: Report
    searches: dict[SearchKey, _Place] = field(default_factory=dict)
    grades: dict[GradeKey, _Place] = field(default_factory=dict)
    trees: dict[TreeKey, _Place] = field(default_factory=dict)
    cuts: list[tuple[_Place, str]] = field(default_factory=list)

    def found(self, kind: str, place: _Place, text: str, repair: str = "") -> None:
        """Note a finding; with a `repair` its bytes will be taken out."""
        name = place.file.relative_to(self.run).as_posix()
        self.report.findings.append(Finding(kind, name, place.number or place.start, text, repair))
        if repair:
            self.cuts.append((place, f"{kind}: {text}"))


def fsck(run: Path, *, repair: bool = False, data_dir: Path | None = None) -> Report:
    """Look at a run's folder and, with `repair`, mend what can be mended. See Report.

    UserError if it is no run folder, its manifest can't be read, or (with `repair`) another process writes it.
    """
    manifest = read_manifest(run)
    look = _Look(run, Report(str(run)))
    if not repair:
        look.report.live = any(_in_use(folder) for folder in folders(run))
        _look_at(look, manifest)
        return look.report
    with contextlib.ExitStack() as stack:  # nobody writes between the look and the repair
        opened: list[Segment] = [stack.enter_context(RunStore(run, mend=False))]
        opened += [stack.enter_context(Segment(folder, mend=False)) for folder in folders(run)[1:]]
        _look_at(look, manifest)
        if look.report.findings:
            _repair(look, opened)
    if look.report.findings:
        _grade_missing(look, data_dir)
        look.report.repaired = True
    return look.report


def _look_at(look: _Look, manifest: Mapping[str, Any]) -> None:
    for folder in folders(look.run):
        _closed_logs(look, folder)
        for name in (TRAJECTORIES, GRADES):
            if (folder / name).exists():
                _lines(look, folder / name)
        if (folder / TREES).exists():
            _trees(look, folder / TREES)
    _grades_fit(look, manifest)
    _trees_fit(look)


def _in_use(folder: Path) -> bool:
    """Return whether a process has a segment open for writing."""
    try:
        with open(folder / LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _closed_logs(look: _Look, folder: Path) -> None:
    known, file = read_digests(folder), folder / DIGESTS
    if file.exists() and not known and file.read_bytes().strip() != b"{}":
        place = _Place(file, 0, 0, 0)
        look.found("damaged", place, "no digests can be read", "written anew")
    for name, digest in known.items():
        log = folder / name
        size = log.stat().st_size if log.exists() else 0
        if size < digest.bytes:
            what = f"{digest.bytes - size} bytes are missing from its end"
        elif digest_of(log, stop=digest.bytes) != digest:
            what = f"its first {digest.bytes} bytes are not what they were"
        else:
            continue
        text = f"{what} since it was closed with {digest.records} records"
        look.found("changed", _Place(log, 0, 0, 0), text, "digest made anew; what is missing is done again")


def _lines(look: _Look, file: Path) -> None:
    count = 0
    for count, one in enumerate(raw_lines(file), start=1):  # noqa: B007
        record, problem = one.record, one.problem
        if record is not None:
            problem = _misses(record, file.name)
        if record is None or problem:
            kind = "torn" if problem == "torn" else "damaged"
            look.found(kind, _place(one), f"{len(one.raw)} bytes: {problem}", "set aside; what it held is done again")
            continue
        look.report.unchecked += not one.checked
        if file.name == TRAJECTORIES:
            _search(look, one, record)
        else:
            _grade(look, one, record)
    look.report.records[file.relative_to(look.run).as_posix()] = count


def _search(look: _Look, one: RawLine, record: Mapping[str, Any]) -> None:
    key = (record["task"], record["problem"], record["tree"])
    if key not in look.searches:
        look.searches[key] = _place(one, len(record["trajectories"]))
        return
    first = look.searches[key]
    with open(first.file, "rb") as log:
        log.seek(first.start)
        same = comparable(decode(log.read(first.stop - first.start))[0] or {}) == comparable(record)
    text = f"the search {_words(key)} is there already, {'the same' if same else 'and another one'}; the first counts"
    look.found("duplicate", _place(one), text, "set aside")


def _grade(look: _Look, one: RawLine, record: Mapping[str, Any]) -> None:
    key = (record["task"], record["problem"], record["grader"], record["version"])
    if key in look.grades:
        look.found("duplicate", look.grades[key], f"the grade {_words(key)} comes again; the last counts", "set aside")
    look.grades[key] = _place(one, len(record["trajectories"]))


def _trees(look: _Look, file: Path) -> None:
    at, count, size = 0, 0, file.stat().st_size
    while at < size:
        try:
            for key, start, length in tree_places(file, at):
                place, at, count = _Place(file, 0, at, start + length), start + length, count + 1
                try:
                    unpack(read_record(file, start, length))
                except UserError as error:
                    look.found("damaged", place, error.message, "set aside")
                    continue
                if key in look.trees:
                    look.found("duplicate", place, f"tree {_words(key)} is there already", "set aside")
                else:
                    look.trees[key] = place
            if at < size:
                look.found("torn", _Place(file, 0, at, size), f"{size - at} bytes", "set aside")
            break
        except UserError:
            stop = next_tree(file, at)
            look.found("damaged", _Place(file, 0, at, stop), f"{stop - at} bytes that are no tree", "set aside")
            at = stop
    look.report.records[file.relative_to(look.run).as_posix()] = count


def _grades_fit(look: _Look, manifest: Mapping[str, Any]) -> None:
    """Every grade has verdicts on just the trajectories that are there, and every complete problem has its grade."""
    config, grader = manifest["config"], manifest["grader"]
    needed = 1 if config.get("early_stop") else int(config.get("trees", 1))
    trajectories, grown = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for (task, problem, _), place in look.searches.items():
        trajectories[(task, problem)] += place.size
        grown[(task, problem)] += 1
    for key, place in look.grades.items():
        there = (grown[key[:2]], trajectories[key[:2]])
        if there[0] < needed or there[1] != place.size:
            text = f"{_words(key)}: {place.size} verdicts on {there[1]} trajectories of {there[0]} searches"
            look.found("unfit grade", place, text, "set aside; made again when its searches are there")
    if config.get("early_stop"):
        return  # whether such a problem is complete its votes say: giving the run's command again looks at them
    for (task, problem), count in grown.items():
        if count >= needed and (task, problem, grader["name"], grader["version"]) not in look.grades:
            look.report.findings.append(Finding("missing grade", "", 0, f"{task} {problem}", "made"))


def _trees_fit(look: _Look) -> None:
    """Every tree has its search. (A search may have no tree: trees can be kept in one session and not in another.)"""
    searched = {(problem, tree) for _, problem, tree in look.searches}
    for key, place in look.trees.items():
        if key not in searched:
            look.found("orphan tree", place, f"tree {_words(key)}", "set aside")
    if look.trees:
        look.report.without_tree = len(searched - look.trees.keys())


def _repair(look: _Look, segments: Sequence[Segment]) -> None:
    """Write what is to be taken out to the quarantine of its segment, and then each log anew without it."""
    for segment in segments:
        for name in (TRAJECTORIES, GRADES, TREES):
            file = segment.path / name
            mine = [(one, why) for one, why in look.cuts if one.file == file and one.stop > one.start]
            if mine:
                _take_out(segment, name, sorted(mine, key=lambda cut: cut[0].start))
        segment.forget_digests()
        segment.write_digests()
    (look.run / INDEX).unlink(missing_ok=True)


def _take_out(segment: Segment, name: str, cuts: list[tuple[_Place, str]]) -> None:
    file = segment.path / name
    temporary = file.with_name(name + ".tmp")
    try:
        with open(file, "rb") as old, open(temporary, "wb") as new:
            at = 0
            for place, reason in cuts:
                _copy(old, new, at, place.start)
                old.seek(place.start)
                segment.set_aside(name, place.start, old.read(place.stop - place.start), reason)
                at = place.stop
            _copy(old, new, at, file.stat().st_size)
            new.flush()
            os.fsync(new.fileno())
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise writing_error(segment.path, error) from None


def _copy(old: BinaryIO, new: BinaryIO, start: int, stop: int) -> None:
    old.seek(start)
    while start < stop:
        block = old.read(min(1 << 20, stop - start))
        new.write(block)
        start += len(block)


def _grade_missing(look: _Look, data_dir: Path | None) -> None:
    """Make the grades that are missing; a task whose data is not here stays a finding."""
    from rstar_eval.regrade import grade_missing

    if any(one.kind in {"missing grade", "unfit grade"} for one in look.report.findings):
        for task, why in grade_missing(look.run, data_dir).items():
            text = f"{task}: not made, because {why}"
            look.report.findings.append(Finding("missing grade", "", 0, text, ""))


def _place(one: RawLine, size: int = 0) -> _Place:
    return _Place(one.file, one.number, one.offset, one.offset + len(one.raw), size)


def _misses(record: Mapping[str, Any], name: str) -> str:
    """Return what a record lacks that every record of its log has ("" if nothing)."""
    own: dict[str, type] = {"tree": int} if name == TRAJECTORIES else {"grader": str, "version": str, "outcome": str}
    kinds: dict[str, type] = {"task": str, "problem": str, "trajectories": list, **own}
    return next((f"no {key!r} in it" for key, kind in kinds.items() if not isinstance(record.get(key), kind)), "")


def _words(key: tuple[Any, ...]) -> str:
    return " ".join(map(str, key))
