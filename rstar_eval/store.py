"""A run's folder: an append-only log that survives being killed at any moment.

    manifest.json         what was run: configuration, data, models, versions, sessions (replaced atomically)
    trajectories.jsonl    one line = one finished search (one tree of one problem), flushed and fsynced
    grades.jsonl          one line = one graded problem; regrading appends, the last line of a grader wins
    trees.jsonl.zst       search trees, if they are kept (trees.py)

A line that was being written when the process died is cut off when the folder is opened again; its search is done
again. One process writes at a time (an advisory lock on the folder's `lock` file).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.serial import line
from rstar_eval.trees import TREES, record_of, recover

SCHEMA = 1
MANIFEST, TRAJECTORIES, GRADES = "manifest.json", "trajectories.jsonl", "grades.jsonl"


class RunStore:
    """The folder of one run, open for writing. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or create the folder and lock it.

        UserError if the folder can't be written, is no run folder though it is not empty, or another process has it.
        """
        self.path = path
        self.notes: list[str] = []
        self._files: dict[str, int] = {}
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / MANIFEST).exists() and any(
                p.name not in {"lock", TRAJECTORIES, GRADES, TREES} for p in path.iterdir()
            ):
                raise UserError(
                    f"output folder {str(path)!r} is not empty and holds no run", "give a new folder with --output"
                )
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
            for name in (TRAJECTORIES, GRADES):
                self._cut_torn_line(name)
            self._recover_trees()
        except OSError as error:
            self.close()
            raise writing_error(path, error) from None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and give the lock back. May be called twice."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The stored manifest, or None in a new folder."""
        return read_manifest(self.path) if (self.path / MANIFEST).exists() else None

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest atomically: a reader sees the old one or the new one, also after a power cut."""
        self._replace(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())

    def write_report(self, name: str, text: str) -> None:
        """Write a derived file (a summary) atomically."""
        self._replace(name, text.encode())

    def append_search(self, record: dict[str, Any]) -> None:
        """Append one finished search. It is on disk when this returns."""
        self._append(TRAJECTORIES, record)

    def append_grade(self, record: dict[str, Any]) -> None:
        """Append one graded problem. It is on disk when this returns."""
        self._append(GRADES, record)

    def write_tree(self, problem: str, tree_index: int, tree: dict[str, Any]) -> None:
        """Append one search tree. Written before its search's line, so that a line implies its tree."""
        self._write(TREES, record_of((problem, tree_index), tree))

    def _append(self, name: str, record: dict[str, Any]) -> None:
        self._write(name, (line({"schema": SCHEMA, **record}) + "\n").encode())

    def _write(self, name: str, data: bytes) -> None:
        """Append `data` to a log; it is on disk when this returns, or the log is as it was."""
        try:
            descriptor = self._files.get(name)
            if descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                descriptor = self._files[name] = os.open(self.path / name, flags, 0o644)
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
        target = self.path / name
        temporary = target.with_name(target.name + ".tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise writing_error(self.path, error) from None

    def _cut_torn_line(self, name: str) -> None:
        path = self.path / name
        if not path.exists():
            return
        with open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            end = _end_of_last_line(file, size)
            if end < size:
                file.truncate(end)
                os.fsync(file.fileno())
                self.notes.append(f"{name}: cut a torn last line of {size - end} bytes; what it held is done again")

    def _recover_trees(self) -> None:
        if not (self.path / TREES).exists():
            return
        searched = {(str(one["problem"]), int(one["tree"])) for one in read_lines(self.path, TRAJECTORIES)}
        torn, orphans = recover(self.path, searched)
        if torn:
            self.notes.append(f"{TREES}: cut a torn last tree of {torn} bytes; its search is done again")
        if orphans:
            self.notes.append(f"{TREES}: cut {orphans} tree(s) whose search was not logged; it is done again")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a run's manifest. UserError if the folder or the manifest is missing or broken."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{str(path)!r} is no run folder (no {MANIFEST})", "give the folder that a run printed"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {str(file)!r}: {error}", "restore it, or give another folder") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise UserError(f"{str(file)!r} has schema {found!r}", f"this version reads schema {SCHEMA}")
    return manifest


def read_lines(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a log, oldest first. A torn last line is passed over (its search counts as not done);
    any other unreadable line is a UserError with its number."""
    file = path / name
    if not file.exists():
        return
    try:
        with open(file, "rb") as log:
            for number, raw in enumerate(log, start=1):
                if not raw.endswith(b"\n"):
                    return
                try:
                    record = json.loads(raw)
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise UserError(f"{str(file)!r} line {number} is no JSON record", "remove that line and run again")
                yield record
    except OSError as error:
        raise UserError(f"can't read {str(file)!r}: {error.strerror}", "check the folder's permissions") from None


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


def _end_of_last_line(file: Any, size: int) -> int:
    """Return the offset just after the last newline (0 if there is none)."""
    position, block = size, 1 << 16
    while position > 0:
        start = max(0, position - block)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        position = start
    return 0
