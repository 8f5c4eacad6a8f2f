"""The lines of a run's logs: how a record is written with its checksum, and how it is read and checked again.

A line is one JSON object whose last key is `crc`: the CRC-32 of the line's bytes before `,"crc":`, as eight hexadecimal
digits. Its `schema` is 2. Lines of schema 1 (written before there were checksums) have none and are read as they are;
a line of schema 2 without its checksum is damaged. So a flipped bit anywhere in a line is noticed.

A run has one folder for each writer (store.py): the run's own, and those of its worker segments. What reads a log
reads them all, in this order.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.serial import line

LINE_SCHEMA = 2
TRAJECTORIES, GRADES = "trajectories.jsonl", "grades.jsonl"
SEGMENTS = "segments"
_KEY = b',"crc":"'
_TAIL = len(_KEY) + 8 + len(b'"}\n')


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line of a log where it lies: its file, number (from 1), offset and bytes, newline included.

    record: what it holds, without its checksum, or None if it is damaged. checked: whether it has a checksum.
    problem: why it is damaged ("torn" for a last line without a newline), or "".
    """

    file: Path
    number: int
    offset: int
    raw: bytes
    record: dict[str, Any] | None
    checked: bool
    problem: str = ""


def segment_path(run: Path, name: str) -> Path:
    """Return the folder of the worker segment `name` of a run. ValueError if `name` could leave the run's folder."""
    if not name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
        raise ValueError(f"a segment's name has letters, digits, - and _ alone, got {name!r}")
    return run / SEGMENTS / name


def folders(run: Path) -> list[Path]:
    """Return the folders that hold a run's logs: its own, then its segments' by name."""
    try:
        found = sorted(one for one in (run / SEGMENTS).iterdir() if one.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        found = []
    return [run, *found]


def segments(run: Path, name: str) -> list[Path]:
    """Return the files of one log (TRAJECTORIES, GRADES, the trees) that a run has, in reading order."""
    return [file for folder in folders(run) if (file := folder / name).exists()]


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line with its checksum."""
    body = line({"schema": LINE_SCHEMA, **{key: value for key, value in record.items() if key != "schema"}})[:-1]
    data = body.encode()
    return data + _KEY + f"{zlib.crc32(data):08x}".encode() + b'"}\n'


def decode(raw: bytes) -> tuple[dict[str, Any] | None, bool, str]:
    """Return what a line holds, whether it has a checksum, and what is wrong with it ("" if nothing is)."""
    if not raw.endswith(b"\n"):
        return None, False, "torn"
    if raw[-_TAIL : -_TAIL + len(_KEY)] == _KEY:
        body, written = raw[:-_TAIL], raw[-11:-3]
        if raw[-3:-1] != b'"}' or f"{zlib.crc32(body):08x}".encode() != written:
            return None, True, "its checksum does not fit"
        return _parsed(body + b"}"), True, ""
    try:
        record = _parsed(raw)
    except ValueError:
        return None, False, "no JSON record"
    if not isinstance(record, dict):
        return None, False, "no JSON record"
    if record.get("schema", 1) != 1 or "crc" in record:
        return None, False, "its checksum is missing"
    return record, False, ""


def _parsed(data: bytes) -> Any:
    """Return what JSON says, by the parser that pydantic brings (twice as fast as the standard library's)."""
    try:
        return _fast()(data, cache_strings="keys")
    except ValueError:  # it refuses lone surrogates, which a model may write; the other one refuses what is no JSON
        return json.loads(data)


@cache
def _fast() -> Callable[..., Any]:
    from pydantic_core import from_json  # here, because the command line's help needs none of it

    return from_json


def raw_lines(file: Path, start: int = 0, number: int = 0) -> Iterator[RawLine]:
    """Yield every line of one file from byte `start` on, damaged ones too; `number` lines lie before it.

    UserError if the file can't be read.
    """
    try:
        with open(file, "rb") as log:
            log.seek(start)
            for place, raw in enumerate(log, start=number + 1):
                record, checked, problem = decode(raw)
                yield RawLine(file, place, start, raw, record, checked, problem)
                start += len(raw)
    except OSError as error:
        raise UserError(f"can't read {str(file)!r}: {error.strerror}", "check the folder's permissions") from None


def read_lines(run: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a log, segment by segment and in each the oldest first, without their checksums.

    A torn last line is passed over (its search counts as not done); any other damaged line is a UserError with its
    number and the mend.
    """
    for file in segments(run, name):
        for one in raw_lines(file):
            if one.record is not None:
                yield one.record
            elif one.problem != "torn":
                raise damaged(run, file, f"line {one.number}", one.problem)


def damaged(run: Path, file: Path, where: str, problem: str) -> UserError:
    """Return the error for a damaged line: where it is ("line 3"), what is wrong, the mend."""
    return UserError(
        f"{str(file)!r} {where} is damaged: {problem}",
        f"`rstar-eval fsck {run} --repair` sets it aside; the same command then does again what it held",
    )


def end_of_last_line(file: Path) -> tuple[int, int]:
    """Return the offset just after a file's last newline (0 if it has none), and the file's size."""
    with open(file, "rb") as log:
        size = position = log.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - (1 << 16))
            log.seek(start)
            found = log.read(position - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1, size
            position = start
    return 0, size
