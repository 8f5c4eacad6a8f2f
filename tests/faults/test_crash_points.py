"""A process dies at every single write, sync and replacement of its store, and again while it recovers: after that,
nothing is lost and nothing doubled. (The campaign kills real processes at random moments; here none is left out.)"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.store import GRADES, TRAJECTORIES, RunStore, Segment, read_lines, read_manifest, segment_path
from rstar_eval.trees import TREES, read_record, tree_places

MANIFEST = {"schema": 1, "config": {"trees": 2}, "data": {}, "grader": {"name": "g", "version": "1"}, "sessions": []}
TREE = {"schema": 1, "nodes": [{"tag": "0", "visits": 1, "q": 0.5}, {"tag": "0.1", "visits": 1, "q": 1.0, "text": "x"}]}


class Crash(BaseException):
    """The process is gone: no code of the store may notice."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int, rng: random.Random) -> Iterator[list[int]]:
    """Die at the `at`-th act on the disk (-1: never): a write may get half of its bytes out first, a replacement and a
    sync may have happened or not."""
    acts = [0]
    write, replace = os.write, os.replace

    def due() -> bool:
        acts[0] += 1
        return acts[0] == at

    def dying_write(descriptor: int, data: bytes) -> int:
        if due():
            write(descriptor, data[: rng.randint(0, len(data))])
            raise Crash
        return write(descriptor, data)

    def dying_sync(descriptor: Any) -> None:  # nothing is synced here: it is the order of acts that counts
        if due():
            raise Crash

    def dying_replace(source: Any, target: Any) -> None:
        now, before = due(), rng.random() < 0.5
        if not (now and before):
            replace(source, target)
        if now:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", dying_write)
        patched.setattr(os, "fsync", dying_sync)
        patched.setattr(os, "replace", dying_replace)
        yield acts


def session(run: Path, segment: str | None) -> None:
    """What a session does: what the run lacks, tree before search, the grade when both searches are there."""
    with RunStore(run) as store:
        if store.manifest is None:
            store.write_manifest(MANIFEST)
        writer = store if segment is None else Segment(segment_path(run, segment))
        try:
            done = {(one["problem"], one["tree"]) for one in read_lines(run, TRAJECTORIES)}
            graded = {one["problem"] for one in read_lines(run, GRADES)}
            for problem in ("a", "b", "c"):
                for tree in range(2):
                    if (problem, tree) not in done:
                        writer.write_tree(problem, tree, TREE)
                        writer.append_search({"task": "t", "problem": problem, "tree": tree, "trajectories": []})
                if problem not in graded:
                    store.append_grade({"task": "t", "problem": problem, "trajectories": []})
        finally:
            if writer is not store:
                writer.close(digests=False)
        store.write_report("summary.md", "done")


def content(run: Path, segment: str | None) -> list[object]:
    trees = (run if segment is None else segment_path(run, segment)) / TREES
    return [
        sorted((one["problem"], one["tree"]) for one in read_lines(run, TRAJECTORIES)),
        sorted(one["problem"] for one in read_lines(run, GRADES)),
        sorted((key, str(read_record(trees, start, length))) for key, start, length in tree_places(trees)),
        read_manifest(run),
        (run / "summary.md").read_text(),
    ]


def dies(run: Path, segment: str | None, monkeypatch: pytest.MonkeyPatch, at: int, rng: random.Random) -> bool:
    with dying(monkeypatch, at, rng):
        try:
            session(run, segment)
        except Crash:
            return True
    return False


@pytest.mark.parametrize("segment", [None, "w0"])
def test_a_death_at_any_act_on_the_disk_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment: str | None
) -> None:
    with dying(monkeypatch, -1, random.Random(0)) as acts:
        session(tmp_path / "calm", segment)
    calm, deaths = content(tmp_path / "calm", segment), 0
    assert acts[0] > 40
    for at in range(1, acts[0] + 1):
        rng, run = random.Random(at), tmp_path / f"run{at}"
        assert dies(run, segment, monkeypatch, at, rng)
        deaths += 1 + dies(run, segment, monkeypatch, rng.randint(1, 12), rng)
        assert not dies(run, segment, monkeypatch, -1, rng)
        assert content(run, segment) == calm, f"died at act {at}"
    assert deaths > 1.5 * acts[0]


FULL: list[tuple[str, Callable[[RunStore], None]]] = [
    ("search", lambda store: store.append_search({"problem": "z", "pad": "x" * 99})),
    ("grade", lambda store: store.append_grade({"problem": "z", "pad": "x" * 99})),
    ("tree", lambda store: store.write_tree("z", 0, TREE)),
    ("manifest", lambda store: store.write_manifest({**MANIFEST, "data": {"pad": "x" * 99}})),
]


@pytest.mark.parametrize(("name", "act"), FULL, ids=[one[0] for one in FULL])
def test_a_full_disk_at_any_write_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[RunStore], None]
) -> None:
    from rstar_eval.errors import UserError

    session(tmp_path, None)
    before = content(tmp_path, None)
    with RunStore(tmp_path) as store:
        monkeypatch.setattr(
            os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(UserError, match="No space left on device"):
            act(store)
        monkeypatch.undo()
    assert content(tmp_path, None) == before
