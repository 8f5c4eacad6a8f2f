"""One writer's folder of a run: its logs, which only grow, and the lock that keeps them one writer's.

trajectories.jsonl    one line = one finished search (one tree of one problem), flushed and fsynced
grades.jsonl          one line = one graded problem; regrading appends, the last line of a grader wins
trees.jsonl.zst       search trees, if they are kept (trees.py)
digests.json          of each log, when it was closed: bytes, records, and a SHA-256 chained over its lines
quarantine.jsonl      what was ever taken out of a log: file, offset, reason, and the very bytes
lock                  an advisory lock (flock): one process writes at a time
"""

from __future__ import annotations

import base64
import datetime
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rstar_eval.errors import UserError
from rstar_eval.serial import line
from rstar_eval.store_lines import GRADES, SEGMENTS, TRAJECTORIES, RawLine, encode, end_of_last_line, raw_lines
from rstar_eval.trees import TREES, record_of, recover

DIGESTS, QUARANTINE, LOCK = "digests.json", "quarantine.jsonl", "lock"
OWN = frozenset(
    {LOCK, TRAJECTORIES, GRADES, TREES, DIGESTS, QUARANTINE, SEGMENTS, "manifest.json.tmp", "digests.json.tmp"}
)
"""What a folder may hold before it holds a manifest: a writer may have been killed before, or as it wrote one."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The state of a log when it was closed: `bytes` and `records` written, and `chain`, the hexadecimal SHA-256 of
    the chain so far and the line, line after line (a log that grew needs only its new lines read)."""

    bytes: int = 0
    records: int = 0
    chain: str = ""


class Segment:
    """The folder of one writer, open for writing. Use as a context manager.

    notes: what was found and mended when it was opened, one line each, for the user.
    """

    def __init__(self, path: Path, *, mend: bool = True) -> None:
        """Open or create the folder, lock it, and cut off what a killed writer left half written if it is to `mend`.

        UserError if it can't be written or another process has it.
        """
        self.path = path
        self.notes: list[str] = []
        self._files: dict[str, int] = {}
        self._lock = -1
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._check_folder()
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise writing_error(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UserError(
                f"run folder {str(path)!r} is in use by another process", "wait for it or give another --output"
            ) from None
        try:
            if mend:
                for name in (TRAJECTORIES, GRADES):
                    self._cut_torn_line(name)
                self._recover_trees()
            self._closed = read_digests(path)
            self._missing_bytes()
        except OSError as error:
            self._give_lock_back()
            raise writing_error(path, error) from None
        except BaseException:
            self._give_lock_back()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(digests=kind is None)

    def close(self, *, digests: bool = True) -> None:
        """Close all files, write their `digests`, and give the lock back. May be called twice.

        After an error digests are not written: the ones of the last close are still right for what was there then.
        """
        for descriptor in self._files.values():
            os.close(descriptor)
        written, self._files = set(self._files), {}
        try:
            if digests and written & {TRAJECTORIES, GRADES}:
                self.write_digests()
        finally:
            self._give_lock_back()

    def _give_lock_back(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_folder(self) -> None:
        """Refuse a folder that is no run's. A segment's folder lies inside a run."""

    def append_search(self, record: Mapping[str, Any]) -> None:
        """Append one finished search. It is on disk when this returns."""
        self._write(TRAJECTORIES, encode(record))

    def append_grade(self, record: Mapping[str, Any]) -> None:
        """Append one graded problem. It is on disk when this returns."""
        self._write(GRADES, encode(record))

    def write_tree(self, problem: str, tree_index: int, tree: Mapping[str, Any]) -> None:
        """Append one search tree. Written before its search's line, so that a line implies its tree."""
        self.append_tree(record_of((problem, tree_index), tree))

    def append_tree(self, record: bytes) -> None:
        """Append one search tree that is packed already (`trees.record_of`); see write_tree."""
        self._write(TREES, record)

    def set_aside(self, name: str, offset: int, raw: bytes, reason: str) -> None:
        """Write to the quarantine what is going to be taken out of the log `name`. It is on disk when this returns."""
        try:
            text: dict[str, str] = {"text": raw.decode()}
        except UnicodeDecodeError:
            text = {"base64": base64.b64encode(raw).decode()}
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {"when": when, "file": name, "offset": offset, "bytes": len(raw), "reason": reason, **text}
        self._write(QUARANTINE, (line(record) + "\n").encode())

    def write_digests(self) -> None:
        """Bring digests.json up to the logs' present ends, reading only what was added since the last time."""
        found = {}
        for name in (TRAJECTORIES, GRADES):
            if (self.path / name).exists():
                found[name] = digest_of(self.path / name, self._closed.get(name))
        self._replace(DIGESTS, (json.dumps({k: asdict(v) for k, v in found.items()}, indent=2) + "\n").encode())
        self._closed = found

    def forget_digests(self) -> None:
        """Make the next `write_digests` read the logs from their beginnings (after a repair)."""
        self._closed = {}

    def _write(self, name: str, data: bytes) -> None:
        """Append `data` to a log; it is on disk when this returns, or the log is as it was."""
        try:
            descriptor = self._files.get(name)
            if descriptor is None:
                new = not (self.path / name).exists()
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                descriptor = self._files[name] = os.open(self.path / name, flags, 0o644)
                if new:  # else a power cut could take the file with all that was fsynced into it
                    _sync_folder(self.path)
            before = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(descriptor, data[written:])
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        except OSError as error:
            raise writing_error(self.path, error) from None

    def _replace(self, name: str, data: bytes) -> None:
        """Write a file as a whole: a reader sees the old one or the new one, also after a power cut."""
        target = self.path / name
        temporary = target.with_name(target.name + ".tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise writing_error(self.path, error) from None

    def _cut_torn_line(self, name: str) -> None:
        path = self.path / name
        if not path.exists():
            return
        end, size = end_of_last_line(path)
        if end < size:
            with open(path, "r+b") as file:
                file.seek(end)
                self.set_aside(name, end, file.read(), "torn last line")
                file.truncate(end)
                os.fsync(file.fileno())
            self.notes.append(f"{name}: cut a torn last line of {size - end} bytes; what it held is done again")

    def _recover_trees(self) -> None:
        file, known = self.path / TRAJECTORIES, set[tuple[str, int]]()

        def searched(key: tuple[str, int]) -> bool:
            """A tree lies just before its search's line: the log's end is looked at first, then all of it."""
            if not known and file.exists():
                known.update(_keys(raw_lines(file, _near_the_end(file))))
            if key not in known and file.exists():
                known.update(_keys(raw_lines(file)))
            return key in known

        cut = recover(self.path, searched, lambda at, raw, why: self.set_aside(TREES, at, raw, why))
        if cut:
            self.notes.append(
                f"{TREES}: cut {cut} last tree(s) that were torn or whose search was not logged; done again"
            )

    def _missing_bytes(self) -> None:
        """Tell of a log that is shorter than it was when it was closed: whole lines are gone from its end."""
        for name, digest in list(self._closed.items()):
            file = self.path / name
            size = file.stat().st_size if file.exists() else 0
            if size < digest.bytes:
                del self._closed[name]
                self.notes.append(
                    f"{name}: {digest.bytes - size} bytes are missing that were there when it was closed; "
                    f"what they held is done again"
                )


def _keys(lines: Iterable[RawLine]) -> Iterator[tuple[str, int]]:
    return ((str(one.record["problem"]), int(one.record["tree"])) for one in lines if one.record is not None)


def _near_the_end(file: Path, size: int = 1 << 20) -> int:
    """Return the offset of a line's beginning in the last `size` bytes of a log (0 in a smaller one)."""
    with open(file, "rb") as log:
        end = log.seek(0, os.SEEK_END)
        if end <= size:
            return 0
        log.seek(end - size)
        log.readline()
        return log.tell()


def digest_of(file: Path, since: Digest | None = None, stop: int | None = None) -> Digest:
    """Return the digest of a log's whole lines, given its state `since` (of a digest before), up to byte `stop`."""
    since = since or Digest()
    size, records, chain = since.bytes, since.records, since.chain
    with open(file, "rb") as log:
        log.seek(size)
        for raw in log:
            if not raw.endswith(b"\n") or (stop is not None and size + len(raw) > stop):
                break
            chain = hashlib.sha256(bytes.fromhex(chain) + raw).hexdigest()
            size, records = size + len(raw), records + 1
    return Digest(size, records, chain)


def read_digests(folder: Path) -> dict[str, Digest]:
    """Return the digests of a segment's logs; none if it was never closed, or digests.json can't be read (it is
    written anew at the next close, and fsck tells of it)."""
    try:
        data = json.loads((folder / DIGESTS).read_text())
        return {name: Digest(int(one["bytes"]), int(one["records"]), str(one["chain"])) for name, one in data.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def writing_error(path: Path, error: OSError) -> UserError:
    """Return the one-line error for a failed write: what failed, where, and the mend."""
    fixes = {
        errno.ENOSPC: "free some space and run the same command again: finished work is kept",
        errno.EDQUOT: "free some of your quota and run the same command again: finished work is kept",
        errno.EROFS: "give a writable folder with --output",
        errno.EACCES: "give a writable folder with --output",
        errno.EPERM: "give a writable folder with --output",
        errno.ENOTDIR: "give a folder with --output, not a file",
        errno.EEXIST: "give a folder with --output, not a file",
    }
    fix = fixes.get(error.errno or 0, "give another folder with --output")
    return UserError(f"can't write to {str(path)!r}: {error.strerror or error}", fix)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
