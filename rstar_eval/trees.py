"""Stored search trees: one file a run, `trees.jsonl.zst`, which only grows.

A record is a zstd skippable frame (key and length, so that a tree is found without unpacking the others) and a zstd
frame with a checksum, which unpacks to one JSON line: the file can be read with `zstdcat` alone. A line has columns,
one value a node in the order of `solver.tree.tree_data`, which pack better than nodes one by one.

A tree is on disk before the line of its search. What was being written when a process died is cut off when the run is
opened again, and so is a last tree whose search was not logged: the search is done again, and its tree is stored once.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.serial import line

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
    for key, start, length in _index(path):
        if key in log:
            record = log[key]
            data = unpack(_read(path, start, length))
            yield StoredTree(record.task, record.problem, record.index, record.tree, record.end, data)


def read_tree(path: Path, problem: str, tree_index: int) -> dict[str, Any] | None:
    """Return one stored tree as plain data, or None if it was not kept. UserError if the file is damaged."""
    file = path / TREES
    if not file.exists():
        return None
    state = file.stat()
    places = _places(path, state.st_size, state.st_mtime_ns)
    if (problem, tree_index) not in places:
        return None
    return unpack(_read(path, *places[(problem, tree_index)]))


def record_of(key: Key, tree: Mapping[str, Any]) -> bytes:
    """Return the bytes of one record."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    packed = compressor.compress((line({**pack(tree), "problem": key[0], "tree": key[1]}) + "\n").encode())
    head = json.dumps([key[0], key[1], len(packed)], separators=(",", ":")).encode()
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


def recover(path: Path, searched: Set[Key]) -> tuple[int, int]:
    """Cut off a torn last record, and last trees whose search is not among `searched`. Return the bytes cut for the
    first reason and the trees cut for the second."""
    file = path / TREES
    if not file.exists():
        return 0, 0
    size = file.stat().st_size
    found = list(_index(path))
    end = found[-1][1] + found[-1][2] if found else 0
    torn, orphans = size - end, 0
    while found and found[-1][0] not in searched:
        found.pop()
        orphans += 1
    end = found[-1][1] + found[-1][2] if found else 0
    if end < size:
        with open(file, "r+b") as log:
            log.truncate(end)
            os.fsync(log.fileno())
    return torn, orphans


@lru_cache(maxsize=8)
def _places(path: Path, size: int, changed: int) -> dict[Key, tuple[int, int]]:
    """The places of a run's trees by key. `size` and `changed` make a file that has grown another one."""
    return {key: (start, length) for key, start, length in _index(path)}


def _index(path: Path) -> Iterator[tuple[Key, int, int]]:
    """Yield key, offset and length of every whole record's packed line."""
    file = path / TREES
    if not file.exists():
        return
    size = file.stat().st_size
    with open(file, "rb") as log:
        at = 0
        while at + _HEAD.size <= size:
            log.seek(at)
            magic, length = _HEAD.unpack(log.read(_HEAD.size))
            if magic != _SKIPPABLE or length > 4096:
                raise UserError(f"{str(file)!r} is damaged at byte {at}", "remove the file; only the trees are lost")
            head = log.read(length)
            if len(head) < length:
                return
            problem, tree, packed = json.loads(head)
            start = at + _HEAD.size + length
            if start + packed > size:
                return
            yield (str(problem), int(tree)), start, int(packed)
            at = start + packed


def _read(path: Path, start: int, length: int) -> dict[str, Any]:
    import zstandard

    file = path / TREES
    try:
        with open(file, "rb") as log:
            log.seek(start)
            data = json.loads(zstandard.ZstdDecompressor().decompress(log.read(length)))
    except (OSError, ValueError, zstandard.ZstdError) as error:
        raise UserError(
            f"{str(file)!r} is damaged at byte {start}: {error}", "remove the file; only the trees are lost"
        ) from None
    if not isinstance(data, dict):
        raise UserError(f"{str(file)!r} holds no tree at byte {start}", "remove the file; only the trees are lost")
    return data
