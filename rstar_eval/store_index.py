"""The index of a large run: what figures and filters need of every record, and where the record lies.

`index.sqlite` in the run's folder is made from the logs and may be removed at any time. It is brought up to date by
reading what was added to the logs since the last time, and made anew when a log is not what it was (it is shorter, or
the last line that was read has changed). Memory does not grow with the run: rows are streamed.

Which of two records of one key counts is as in records.read_log: the first search, the last grade, in reading order.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import UserError
from rstar_eval.solver.types import Budget
from rstar_eval.store_lines import GRADES, TRAJECTORIES, RawLine, damaged, raw_lines, segments

if TYPE_CHECKING:
    from rstar_eval.records import Log

INDEX = "index.sqlite"
VERSION = 1
LARGE = 64 << 20
"""Bytes of logs from which on a run is read through its index."""
_BLOCK = 20_000
_SPENT = tuple(Budget.__slots__)
_SCHEMA = """
CREATE TABLE files (file TEXT PRIMARY KEY, bytes INTEGER, records INTEGER, last INTEGER, hash TEXT);
CREATE TABLE searches (
    task TEXT, problem TEXT, tree INTEGER, number INTEGER, session INTEGER, started REAL, ended REAL, why TEXT,
    ends TEXT, spent TEXT, file TEXT, place INTEGER, length INTEGER, PRIMARY KEY (task, problem, tree)
) WITHOUT ROWID;
CREATE TABLE grades (
    task TEXT, problem TEXT, grader TEXT, version TEXT, number INTEGER, outcome TEXT, level TEXT, subject TEXT,
    answer TEXT, rule TEXT, groups TEXT, rights TEXT, file TEXT, place INTEGER, length INTEGER,
    PRIMARY KEY (task, problem, grader, version)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SearchRow:
    """What the figures need of a search: see SearchRecord. ends: why each of its trajectories ended."""

    problem: str
    tree: int
    session: int
    started: float
    ended: float
    end: str
    ends: tuple[str, ...]
    budget: Budget


@dataclass(frozen=True, slots=True)
class GradeRow:
    """What figures and lists need of a grade: see GradeRecord. groups, rights: of each trajectory its answer class
    (None: no answer) and whether it is correct."""

    problem: str
    index: int
    outcome: str
    level: str | None
    subject: str | None
    answer: str | None
    rule: str
    groups: tuple[int | None, ...]
    rights: tuple[bool, ...]


class LogRows:
    """The same rows out of a log in memory."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def grades(self, task: str, grader: tuple[str, str]) -> Iterator[GradeRow]:
        """See Index.grades."""
        for (name, _, *who), one in self._log.grades.items():
            if name == task and tuple(who) == grader:
                groups = tuple(each.group for each in one.trajectories)
                rights = tuple(each.outcome == "correct" for each in one.trajectories)
                yield GradeRow(
                    one.problem, one.index, one.outcome, one.level, one.subject, one.answer, one.rule, groups, rights
                )

    def searches(self, task: str, grader: tuple[str, str]) -> Iterator[SearchRow]:
        """See Index.searches."""
        for one in self._log.searches.values():
            if one.task == task and (task, one.problem, *grader) in self._log.grades:
                ends, timing = tuple(each.end for each in one.trajectories), one.timing
                yield SearchRow(
                    one.problem, one.tree, timing.session, timing.started, timing.ended, one.end, ends, one.budget
                )


def is_large(run: Path, limit: int = LARGE) -> bool:
    """Return whether a run's logs are so large that they are read through the index."""
    return sum(file.stat().st_size for name in (TRAJECTORIES, GRADES) for file in segments(run, name)) > limit


class Index:
    """The index of one run, brought up to date when it is made. Use as a context manager.

    added: how many log lines had to be read for that. UserError if a log is damaged, or there is no room.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.added = run, 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._db = self._current(run / INDEX)
        except sqlite3.OperationalError:  # the folder can't be written to: an archive; then the index lives elsewhere
            self._temporary = tempfile.TemporaryDirectory(prefix="rstar-eval-index-")
            self._db = self._fresh(Path(self._temporary.name) / INDEX)
        except sqlite3.DatabaseError:  # it is made from the logs alone, so that nothing is lost with it
            (run / INDEX).unlink()
            self._db = self._fresh(run / INDEX)

    def _fresh(self, file: Path) -> sqlite3.Connection:
        try:
            return self._current(file)
        except sqlite3.Error as error:
            raise UserError(f"can't write the index {str(file)!r}: {error}", "free some space") from None

    def _current(self, file: Path) -> sqlite3.Connection:
        """Open an index and bring it up to date."""
        db = sqlite3.connect(file, timeout=600.0, isolation_level=None)
        try:
            db.execute("PRAGMA cache_size = -65536")
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                _make_anew(db)
            self._db = db
            if self._stale():  # else nothing is written: it may be read only, or in use
                self._update()
        except BaseException:
            db.close()
            raise
        return db

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. May be called twice."""
        self._db.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def grades(
        self, task: str, grader: tuple[str, str], *, outcome: str | None = None, level: str | None = None
    ) -> Iterator[GradeRow]:
        """Yield the grades of a task by a (grader, version), in no particular order; only those with an `outcome` or
        of a `level` if these are given."""
        query = "SELECT problem, number, outcome, level, subject, answer, rule, groups, rights FROM grades"
        wanted = {"task": task, "grader": grader[0], "version": grader[1], "outcome": outcome, "level": level}
        where, values = _where({key: value for key, value in wanted.items() if value is not None})
        for row in self._rows(f"{query}{where}", values):
            id, number, outcome_, level_, subject, answer, rule, groups, rights = row
            right = tuple(one == "1" for one in rights)
            yield GradeRow(id, number, outcome_, level_, subject, answer, rule, tuple(json.loads(groups)), right)

    def searches(self, task: str, grader: tuple[str, str]) -> Iterator[SearchRow]:
        """Yield the searches of a task whose problem a (grader, version) has graded, in no particular order."""
        query = (
            "SELECT problem, tree, session, started, ended, why, ends, spent FROM searches AS s WHERE task = ? AND "
            "EXISTS (SELECT 1 FROM grades AS g WHERE g.task = s.task AND g.problem = s.problem AND g.grader = ? "
            "AND g.version = ?)"
        )
        for row in self._rows(query, (task, *grader)):
            id, tree, session, started, ended, why, ends, spent = row
            budget = Budget(*json.loads(spent))
            yield SearchRow(id, tree, session, started, ended, why, tuple(ends.split()), budget)

    def keys(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Yield the keys of a log (TRAJECTORIES, GRADES) in reading order."""
        table, columns = _TABLES[name]
        return self._rows(f"SELECT {columns} FROM {table} ORDER BY file, place", ())

    def count(self, name: str) -> int:
        """Return how many keys a log has."""
        return int(self._db.execute(f"SELECT count(*) FROM {_TABLES[name][0]}").fetchone()[0])

    def place(self, name: str, key: tuple[Any, ...]) -> tuple[Path, int, int] | None:
        """Return where the record of a key lies (file, offset, length), or None if there is none."""
        table, columns = _TABLES[name]
        where = " AND ".join(f"{one} = ?" for one in columns.split(", "))
        row = self._db.execute(f"SELECT file, place, length FROM {table} WHERE {where}", key).fetchone()
        return None if row is None else (self.run / row[0].removeprefix("0/"), row[1], row[2])

    def places(self, name: str) -> Iterator[tuple[Path, int, int]]:
        """Yield where the records of a log that count lie (file, offset, length), by task and problem."""
        table, columns = _TABLES[name]
        order = columns.replace("problem", "number, problem")
        for file, offset, length in self._rows(f"SELECT file, place, length FROM {table} ORDER BY {order}", ()):
            yield self.run / file.removeprefix("0/"), offset, length

    def _rows(self, query: str, values: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        with closing(self._db.execute(query, tuple(values))) as cursor:
            yield from cursor

    def _logs(self) -> dict[str, Path]:
        names = (TRAJECTORIES, GRADES)
        return {_label(self.run, file): file for name in names for file in segments(self.run, name)}

    def _stale(self) -> bool:
        known = {row[0]: row[1:] for row in self._db.execute("SELECT * FROM files")}
        there = {label: file for label, file in self._logs().items() if file.stat().st_size}
        return known.keys() != there.keys() or any(
            there[label].stat().st_size != state[0] or not _unchanged(there[label], *state)
            for label, state in known.items()
        )

    def _update(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")  # another process may be at it
        known = {row[0]: row[1:] for row in self._db.execute("SELECT * FROM files")}
        there = self._logs()
        if any(label not in there or not _unchanged(there[label], *state) for label, state in known.items()):
            self._db.execute("ROLLBACK")
            _make_anew(self._db)
            self._db.execute("BEGIN IMMEDIATE")
            known = {}
        for label, file in there.items():
            size, records, *_ = known.get(label, (0, 0))
            if file.stat().st_size > size:
                self._read(label, file, size, records)
        self._db.execute("COMMIT")

    def _read(self, label: str, file: Path, start: int, number: int) -> None:
        """Read the lines of a log from byte `start` on into the tables. A torn last line waits for the next time."""
        values, insert = (_search, _INSERT_SEARCH) if file.name == TRAJECTORIES else (_grade, _INSERT_GRADE)
        block: list[tuple[Any, ...]] = []
        for one in raw_lines(file, start, number):
            if one.record is None:
                if one.problem == "torn":
                    break
                raise damaged(self.run, file, f"line {one.number}", one.problem)
            try:
                block.append((*values(one.record), label, one.offset, len(one.raw)))
            except (KeyError, TypeError, AttributeError) as error:
                raise damaged(self.run, file, f"line {one.number}", f"no such record ({error!r})") from None
            last = one
            if len(block) >= _BLOCK:
                self._keep(label, insert, block, last)
                block.clear()
        if block:
            self._keep(label, insert, block, last)

    def _keep(self, label: str, insert: str, block: list[tuple[Any, ...]], last: RawLine) -> None:
        """Store a block of rows and how far the log is read by them: who is killed goes on here the next time."""
        self._db.executemany(insert, block)
        state = (last.offset + len(last.raw), last.number, last.offset, hashlib.sha256(last.raw).hexdigest())
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (label, *state))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        self.added += len(block)


_TABLES = {TRAJECTORIES: ("searches", "task, problem, tree"), GRADES: ("grades", "task, problem, grader, version")}


def _insert(table: str, key: str, columns: str, wins: str) -> str:
    """Return the statement that adds a record, or replaces that of its key if it `wins` (< comes before, > after)."""
    names = f"{key} {columns} file place length".split()
    changes = ", ".join(f"{name} = excluded.{name}" for name in names[len(key.split()) :])
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) ON CONFLICT DO UPDATE "
        f"SET {changes} WHERE (excluded.file, excluded.place) {wins} ({table}.file, {table}.place)"
    )


_INSERT_SEARCH = _insert("searches", "task problem tree", "number session started ended why ends spent", "<")
_INSERT_GRADE = _insert(
    "grades", "task problem grader version", "number outcome level subject answer rule groups rights", ">"
)


def _make_anew(db: sqlite3.Connection) -> None:
    """Empty the tables, or make them."""
    db.executescript(
        f"DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS searches; DROP TABLE IF EXISTS grades; {_SCHEMA}"
    )
    db.execute(f"PRAGMA user_version = {VERSION}")


def _label(run: Path, file: Path) -> str:
    """Return a log's name in the index, which sorts in reading order: the run's own folder before its segments."""
    relative = file.relative_to(run).as_posix()
    return relative if "/" in relative else f"0/{relative}"


def _unchanged(file: Path, size: int, records: int, last: int, digest: str) -> bool:
    if file.stat().st_size < size:
        return False
    with open(file, "rb") as log:
        log.seek(last)
        return hashlib.sha256(log.read(size - last)).hexdigest() == digest


def _where(wanted: Mapping[str, Any]) -> tuple[str, list[Any]]:
    return (" WHERE " + " AND ".join(f"{key} = ?" for key in wanted) if wanted else ""), list(wanted.values())


def _search(record: Mapping[str, Any]) -> tuple[Any, ...]:
    timing, budget = record["timing"], record["budget"]
    return (
        record["task"], record["problem"], record["tree"], record["index"],
        timing["session"], timing["started"], timing["ended"], record["end"],
        " ".join(one["end"] for one in record["trajectories"]), json.dumps([budget.get(name, 0) for name in _SPENT]),
    )  # fmt: skip


def _grade(record: Mapping[str, Any]) -> tuple[Any, ...]:
    each = record["trajectories"]
    return (
        record["task"], record["problem"], record["grader"], record["version"], record["index"], record["outcome"],
        record.get("level"), record.get("subject"), _storable(record["answer"]), record["rule"],
        json.dumps([one["group"] for one in each]), "".join("01"[one["outcome"] == "correct"] for one in each),
    )  # fmt: skip


def _storable(text: str | None) -> str | None:
    """SQLite holds UTF-8 alone: here, not in the log, a lone surrogate of a model's text becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()
