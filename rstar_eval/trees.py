"""Stored search trees: `trees.jsonl.zst`, one in each folder that a run is written in (store.py), which only grows.

A record is a zstd skippable frame (key, length and their CRC-32, so that a tree is found without unpacking the others)
and a zstd frame with a checksum, which unpacks to one JSON line: the file can be read with `zstdcat` alone. A line has
columns, one value a node in the order of `solver.tree.tree_data`, which pack better than nodes one by one.

A tree is on disk before the line of its search. What was being written when a process died is cut off when the run is
opened again, and so is a last tree whose search was not logged: the search is done again, and its tree is stored once.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.serial import line
from rstar_eval.store_lines import segments

TREES = "trees.jsonl.zst"
SCHEMA = 1
LEVEL = 9
_SKIPPABLE = 0x184D2A52
_HEAD = struct.Struct("<II")
_COLUMNS = (
    "kind", "samples", "visits", "q", "prior", "value", "text", "code", "output", "status", "error", "tokens",
    "logprob", "end", "answer", "walk",
)  # fmt: skip

Key = tuple[str, int]
"""A tree's problem id and its number."""


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A stored tree: of which task, problem (id and index in the task) and tree number it is, why its search ended, and
    its nodes as plain data (`solver.tree.tree_data`): parents before children, each a mapping with `tag`, `visits`
    (N), `q` (Q), and what it has of `kind`, `samples` (how often the policy sampled it), `prior` (PPM), `value` (the
    first value it received), `text`, `code`, `output`, `status`, `error`, `tokens`, `logprob`, `end`, `answer`, `walk`
    (the number of the trajectory that ended there)."""

    task: str
    problem: str
    index: int
    tree: int
    end: str
    data: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes, the root first."""
        nodes: list[dict[str, Any]] = self.data["nodes"]
        return nodes


def read_trees(path: Path | str) -> Iterator[StoredTree]:
    """Yield every tree that a run has stored, in the order in which the searches ended (none if it kept none).

    Trees whose search is not in the log (the run was killed between the two) are left out. UserError if the folder is
    no run, or the file is damaged.
    """
    from rstar_eval.records import read_log
    from rstar_eval.store import read_manifest

    path = Path(path)
    read_manifest(path)
    log = {(record.problem, record.tree): record for record in read_log(path).searches.values()}
    places = ((file, *place) for file in segments(path, TREES) for place in tree_places(file))
    for file, key, start, length in places:
        record = log.pop(key, None)  # a tree that two segments hold comes once
        if record is not None:
            data = unpack(read_record(file, start, length))
            yield StoredTree(record.task, record.problem, record.index, record.tree, record.end, data)


def read_tree(path: Path, problem: str, tree_index: int) -> dict[str, Any] | None:
    """Return one stored tree as plain data, or None if it was not kept. UserError if the file is damaged."""
    for file in segments(path, TREES):
        state = file.stat()
        places = _places(file, state.st_size, state.st_mtime_ns)
        if (problem, tree_index) in places:
            return unpack(read_record(file, *places[(problem, tree_index)]))
    return None


def record_of(key: Key, tree: Mapping[str, Any]) -> bytes:
    """Return the bytes of one record."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    packed = compressor.compress((line({**pack(tree), "problem": key[0], "tree": key[1]}) + "\n").encode())
    fields = [key[0], key[1], len(packed)]
    head = line([*fields, zlib.crc32(line(fields).encode())]).encode()
    return _HEAD.pack(_SKIPPABLE, len(head)) + head + packed


def pack(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree as columns. Tags become the places of parents; numbers are kept exactly; code that is a part of its
    step's text is not stored twice. ValueError if the tree has a key that no column holds."""
    nodes: list[dict[str, Any]] = tree["nodes"]
    place = {node["tag"]: i for i, node in enumerate(nodes)}
    unknown = {key for node in nodes for key in node} - {*_COLUMNS, "tag"}
    if unknown:
        raise ValueError(f"no column holds {sorted(unknown)}")
    data: dict[str, Any] = {"schema": SCHEMA, "tree_schema": tree["schema"]}
    data["parent"] = [place[node["tag"].rpartition(".")[0]] if "." in node["tag"] else -1 for node in nodes]
    for name in _COLUMNS:
        column = [node.get(name) for node in nodes]
        if name == "code":  # mostly a part of the text: then only where it begins and its length
            column = [_part(node.get("text", ""), code) for node, code in zip(nodes, column, strict=True)]
        if any(item is not None for item in column):
            data[name] = column
    return data


def unpack(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain data of a tree from its columns: what `pack` was given."""
    if data.get("schema") != SCHEMA:
        raise UserError(f"a stored tree has schema {data.get('schema')!r}", f"this version reads schema {SCHEMA}")
    tags: list[str] = []
    children: list[int] = []
    nodes: list[dict[str, Any]] = []
    columns = [(name, data[name]) for name in _COLUMNS if name in data]
    for i, parent in enumerate(data["parent"]):
        children.append(0)
        if parent >= 0:
            children[parent] += 1
        tags.append(f"{tags[parent]}.{children[parent]}" if parent >= 0 else "0")
        node: dict[str, Any] = {"tag": tags[i]}
        for name, column in columns:
            item = column[i]
            if item is not None:
                node[name] = item
        if isinstance(node.get("code"), list):
            start, length = node["code"]
            node["code"] = node["text"][start : start + length]
        nodes.append(node)
    return {"schema": data["tree_schema"], "nodes": nodes}


def _part(text: str, code: str | None) -> str | list[int] | None:
    if not code:
        return code
    at = text.find(code)
    return code if at < 0 else [at, len(code)]


def recover(folder: Path, searched: Callable[[Key], bool], set_aside: Callable[[int, bytes, str], None]) -> int:
    """Cut off a torn last record of a segment's file, and last trees whose search is not `searched`. Each is given to
    `set_aside` (offset, bytes, reason) first. Returns how many were cut. UserError if the file is damaged elsewhere."""
    file = folder / TREES
    if not file.exists():
        return 0
    size = file.stat().st_size
    found = list(tree_places(file))
    whole = end = found[-1][1] + found[-1][2] if found else 0
    cuts = [(whole, size, "torn last tree")] if whole < size else []
    while found and not searched(found[-1][0]):
        found.pop()
        begin = found[-1][1] + found[-1][2] if found else 0
        cuts.append((begin, end, "last tree, whose search was not logged"))
        end = begin
    if cuts:
        with open(file, "r+b") as log:
            for begin, stop, reason in cuts:
                log.seek(begin)
                set_aside(begin, log.read(stop - begin), reason)
            log.truncate(end)
            os.fsync(log.fileno())
    return len(cuts)


@lru_cache(maxsize=64)
def _places(file: Path, size: int, changed: int) -> dict[Key, tuple[int, int]]:
    """The places of a file's trees by key. `size` and `changed` make a file that has grown another one."""
    return {key: (start, length) for key, start, length in tree_places(file)}


def tree_places(file: Path, at: int = 0) -> Iterator[tuple[Key, int, int]]:
    """Yield key, offset and length of every whole record's packed line, from the record that begins at `at` on. A torn
    last record is passed over; UserError where something else than a record is found."""
    size = file.stat().st_size
    with open(file, "rb") as log:
        while at + _HEAD.size <= size:
            log.seek(at)
            magic, length = _HEAD.unpack(log.read(_HEAD.size))
            if magic != _SKIPPABLE or length > 4096:
                raise _damaged(file, at)
            head = log.read(length)
            if len(head) < length:
                return
            problem, tree, packed = _fields(file, at, head)
            start = at + _HEAD.size + length
            if start + packed > size:
                return
            yield (problem, tree), start, packed
            at = start + packed


def next_tree(file: Path, at: int) -> int:
    """Return where the next record after byte `at` begins, or the file's size if there is none (after damage)."""
    magic, size = struct.pack("<I", _SKIPPABLE), file.stat().st_size
    with open(file, "rb") as log:
        at += 1
        while at < size:
            log.seek(at)
            block = log.read(1 << 20)
            place = block.find(magic)
            if place < 0:
                at += max(1, len(block) - len(magic) + 1)
                continue
            at += place
            try:
                next(tree_places(file, at))
            except (UserError, StopIteration):
                at += 1
                continue
            return at
    return size


def _fields(file: Path, at: int, head: bytes) -> tuple[str, int, int]:
    """What a record's head says. Heads written before there were checksums have three fields."""
    try:
        problem, tree, packed, *sums = json.loads(head)
        if sums in ([], [zlib.crc32(line([problem, tree, packed]).encode())]) and packed >= 0:
            return str(problem), int(tree), int(packed)
    except (ValueError, TypeError):
        raise _damaged(file, at) from None
    raise _damaged(file, at)


def _damaged(file: Path, at: int, why: str = "") -> UserError:
    return UserError(
        f"{str(file)!r} is damaged at byte {at}{why and f': {why}'}",
        "`rstar-eval fsck RUN --repair` sets that tree aside and keeps the others",
    )


def read_record(file: Path, start: int, length: int) -> dict[str, Any]:
    """Return the packed line at `start` of a trees file. UserError if it is damaged."""
    import zstandard

    try:
        with open(file, "rb") as log:
            log.seek(start)
            data = json.loads(zstandard.ZstdDecompressor().decompress(log.read(length)))
    except (OSError, ValueError, zstandard.ZstdError) as error:
        raise _damaged(file, start, str(error)) from None
    if not isinstance(data, dict):
        raise _damaged(file, start, "it holds no tree")
    return data
