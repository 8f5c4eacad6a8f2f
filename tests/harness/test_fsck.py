"""`rstar-eval fsck`: what it finds, what it mends; it takes nothing away without saying so and keeping it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rstar_eval.cli import app
from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.evaluation import run_config
from rstar_eval.fsck import fsck
from rstar_eval.ledger import read_ledger
from rstar_eval.progress import LineProgress
from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, RunStore, Segment, read_lines, segment_path
from rstar_eval.store_index import Index
from rstar_eval.store_lines import decode, encode
from rstar_eval.store_segment import DIGESTS, QUARANTINE
from rstar_eval.summary import summarise
from rstar_eval.trees import TREES, read_trees

SETTINGS = {"tasks": "mini_math", "policy": "scripted", "rollouts": 4, "trees": 2, "candidates": 2, "limit": 4}


def evaluated(path: Path) -> Path:
    from rich.console import Console

    run_config(build_config({**SETTINGS, "keep_trees": True}), path, LineProgress(Console(quiet=True)))
    return path


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, nothing_runs_here: None) -> Path:
    return evaluated(tmp_path_factory.mktemp("fsck") / "calm")


@pytest.fixture
def run(calm: Path, tmp_path: Path) -> Path:
    return shutil.copytree(calm, tmp_path / "run")


def content(run: Path) -> tuple[list[str], list[str], list[str]]:
    """What a run holds, without times and order."""
    return (
        sorted(json.dumps(comparable(one), sort_keys=True) for one in read_lines(run, TRAJECTORIES)),
        sorted(json.dumps(one, sort_keys=True) for one in read_lines(run, GRADES)),
        sorted(json.dumps([one.problem, one.tree, one.data], sort_keys=True) for one in read_trees(run)),
    )


def lines_of(run: Path, name: str) -> list[bytes]:
    return (run / name).read_bytes().splitlines(keepends=True)


def put(run: Path, name: str, lines: list[bytes]) -> None:
    (run / name).write_bytes(b"".join(lines))


def torn(run: Path) -> None:
    with open(run / TRAJECTORIES, "ab") as log:
        log.write(b'{"schema":2,"task":"mini_')


def torn_newline(run: Path) -> None:
    """The newline of the last search is gone: its grade stays."""
    data = bytearray((run / TRAJECTORIES).read_bytes())
    data[-1] ^= 64
    (run / TRAJECTORIES).write_bytes(data)


def flipped(name: str, line: int, byte: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        lines = lines_of(run, name)
        changed = bytearray(lines[line])
        changed[byte] ^= 4
        lines[line] = bytes(changed)
        put(run, name, lines)

    return damage


def doubled(name: str, line: int) -> Callable[[Path], None]:
    return lambda run: put(run, name, [*lines_of(run, name), lines_of(run, name)[line]])


def doubled_in_a_segment(run: Path) -> None:
    with Segment(segment_path(run, "w1")) as segment:
        record = decode(lines_of(run, TRAJECTORIES)[1])[0] or {}
        segment.append_search({**record, "trajectories": record["trajectories"][:1]})


def without(name: str, line: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        lines = lines_of(run, name)
        del lines[line]
        put(run, name, lines)

    return damage


def cut_tree(run: Path) -> None:
    (run / TREES).write_bytes((run / TREES).read_bytes()[:-7])


def flipped_tree(place: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        data = bytearray((run / TREES).read_bytes())
        data[place] ^= 8
        (run / TREES).write_bytes(data)

    return damage


def doubled_tree(run: Path) -> None:
    data = (run / TREES).read_bytes()
    (run / TREES).write_bytes(data * 2)


def no_digests(run: Path) -> None:
    (run / DIGESTS).write_text("{broken")


DAMAGES: list[tuple[str, Callable[[Path], None], set[str]]] = [
    ("a torn last search", torn, {"torn"}),
    ("the last newline", torn_newline, {"torn", "changed", "unfit grade", "orphan tree"}),
    ("a byte in a search", flipped(TRAJECTORIES, 2, 300), {"damaged", "changed", "unfit grade", "orphan tree"}),
    ("a byte in its checksum", flipped(TRAJECTORIES, 2, -5), {"damaged", "changed", "unfit grade", "orphan tree"}),
    ("the word crc", flipped(TRAJECTORIES, 2, -17), {"damaged", "changed", "unfit grade", "orphan tree"}),
    ("a newline inside", flipped(TRAJECTORIES, 2, -1), {"damaged", "changed", "unfit grade", "orphan tree"}),
    ("a byte in a grade", flipped(GRADES, 0, 100), {"damaged", "changed", "missing grade"}),
    ("a search twice", doubled(TRAJECTORIES, 0), {"duplicate"}),
    ("another search of the same key", doubled_in_a_segment, {"duplicate"}),
    ("a grade twice", doubled(GRADES, 1), {"duplicate"}),
    ("a search that is gone", without(TRAJECTORIES, 1), {"changed", "unfit grade", "orphan tree"}),
    ("a grade that is gone", without(GRADES, 1), {"changed", "missing grade"}),
    ("a torn tree", cut_tree, {"torn"}),
    ("a byte in a tree", flipped_tree(400), {"damaged"}),
    ("a byte in a tree's head", flipped_tree(14), {"damaged"}),
    ("a byte in a tree's magic", flipped_tree(1), {"damaged"}),
    ("trees twice", doubled_tree, {"duplicate"}),
    ("digests", no_digests, {"damaged"}),
]
LOST_TREE = {"a torn tree", "a byte in a tree", "a byte in a tree's head", "a byte in a tree's magic"}


every_damage = pytest.mark.parametrize(("name", "damage", "kinds"), DAMAGES, ids=[one[0] for one in DAMAGES])


@every_damage
def test_each_damage_is_found_and_mended(
    name: str, damage: Callable[[Path], None], kinds: set[str], run: Path, calm: Path
) -> None:
    damage(run)
    before = {one: one.read_bytes() for one in run.rglob("*") if one.is_file()}
    assert {one.kind for one in fsck(run).findings} == kinds
    assert {one: one.read_bytes() for one in run.rglob("*") if one.is_file()} == before, "a look changes nothing"
    assert fsck(run, repair=True).left == []
    assert fsck(run).findings == []
    for found, wanted in zip(content(run), content(calm), strict=True):
        assert set(found) <= set(wanted)
        assert len(set(found)) == len(found)


@pytest.mark.slow
@every_damage
def test_after_a_repair_the_same_command_makes_the_run_whole(
    name: str, damage: Callable[[Path], None], kinds: set[str], run: Path, calm: Path
) -> None:
    damage(run)
    fsck(run, repair=True)
    evaluated(run)
    assert fsck(run).findings == []
    found, wanted = content(run), content(calm)
    assert found[:2] == wanted[:2]
    if name in LOST_TREE:  # the search itself is whole, so that it is not done again
        assert len(found[2]) == len(wanted[2]) - 1
        assert set(found[2]) < set(wanted[2])
        assert fsck(run).without_tree == 1
    else:
        assert found[2] == wanted[2]
    figures = [{**summarise(one).tasks[0].machine(), "seconds": 0} for one in (run, calm)]
    assert figures[0] == figures[1]


def test_what_is_taken_out_lies_in_the_quarantine_byte_for_byte(run: Path) -> None:
    flipped(TRAJECTORIES, 2, 300)(run)
    taken = lines_of(run, TRAJECTORIES)[2]
    cut_tree(run)
    fsck(run, repair=True)
    kept = [json.loads(line) for line in lines_of(run, QUARANTINE)]
    texts = {one["file"]: base64.b64decode(one["base64"]) if "base64" in one else one["text"].encode() for one in kept}
    assert texts[TRAJECTORIES] == taken
    assert all(len(texts[one["file"]]) == one["bytes"] for one in kept if one["file"] == TRAJECTORIES)
    assert {one["reason"].split(":")[0] for one in kept} == {"damaged", "torn", "unfit grade", "orphan tree"}


def test_a_grade_without_its_searches_does_not_count_when_the_run_goes_on(run: Path) -> None:
    """Without fsck: a search whose last newline is lost takes its grade with it, so that no figure lacks it."""
    torn_newline(run)
    with RunStore(run) as store:
        assert any("torn last line" in note for note in store.notes)
    manifest = json.loads((run / "manifest.json").read_text())["grader"]
    ledger = read_ledger(run, manifest["name"], manifest["version"], trees=2)
    (lost,) = {one["problem"] for one in read_lines(run, GRADES)} - {problem for _, problem in ledger.outcomes}
    assert [key[1] for key in ledger.log.searches] == [lost], "its other search is not done again"


@pytest.mark.slow
def test_resuming_alone_mends_what_a_kill_leaves(run: Path, calm: Path) -> None:
    torn_newline(run)
    evaluated(run)
    assert content(run)[0] == content(calm)[0]
    assert {**summarise(run).tasks[0].machine(), "seconds": 0} == {**summarise(calm).tasks[0].machine(), "seconds": 0}


def test_lines_from_before_there_were_checksums_are_read_and_counted(run: Path, calm: Path) -> None:
    for name in (TRAJECTORIES, GRADES):
        old = [json.dumps({**(decode(line)[0] or {}), "schema": 1}).encode() + b"\n" for line in lines_of(run, name)]
        put(run, name, old)
    (run / DIGESTS).unlink()
    report = fsck(run)
    assert report.findings == []
    assert report.unchecked == 8 + 4
    assert {**summarise(run).tasks[0].machine(), "seconds": 0} == {**summarise(calm).tasks[0].machine(), "seconds": 0}
    put(run, TRAJECTORIES, [line.replace(b'"schema": 1', b'"schema": 2') for line in lines_of(run, TRAJECTORIES)])
    assert {one.kind for one in fsck(run).findings} >= {"damaged"}, "a new line must have its checksum"


def test_a_flipped_bit_anywhere_in_a_line_is_noticed() -> None:
    line = encode({"task": "t", "problem": "p", "tree": 0, "trajectories": [], "answer": "\ud800"})
    for place in range(8 * len(line)):
        changed = bytearray(line)
        changed[place // 8] ^= 1 << place % 8
        record, _, problem = decode(bytes(changed))
        assert record is None
        assert problem


def test_the_command_says_it_and_its_exit_code_too(run: Path) -> None:
    runner = CliRunner()
    whole = runner.invoke(app, ["fsck", str(run)])
    assert whole.exit_code == 0
    assert "whole: nothing lost" in whole.output
    flipped(GRADES, 0, 100)(run)
    dry = runner.invoke(app, ["fsck", str(run)])
    assert dry.exit_code == 1
    assert "nothing was changed" in dry.output
    assert "with --repair: set aside" in dry.output
    mended = runner.invoke(app, ["fsck", str(run), "--repair", "--json"])
    assert mended.exit_code == 0
    data: dict[str, Any] = json.loads(mended.stdout)
    assert (data["repaired"], data["left"]) == (True, [])
    with pytest.raises(UserError, match="no run folder"):
        fsck(run / "nowhere")
    assert "being written" not in mended.output
    with RunStore(run):
        assert "the run is being written" in runner.invoke(app, ["fsck", str(run)]).output
        torn(run)
        with pytest.raises(UserError, match="in use by another process"):
            fsck(run, repair=True)


def test_compacting_keeps_every_line_once_in_order(run: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    from rstar_eval.compact import compact, lines

    doubled_in_a_segment(run)
    doubled(GRADES, 0)(run)
    tables = compact(run)
    assert [one.rows for one in tables] == [8, 4]
    wanted = sorted(json.dumps(comparable(one), sort_keys=True) for one in list(read_lines(run, TRAJECTORIES))[:8])
    assert (
        sorted(json.dumps(comparable(decode(one)[0] or {}), sort_keys=True) for one in lines(tables[0].path)) == wanted
    )
    grades = pq.read_table(tables[1].path).to_pylist()
    assert [one["index"] for one in grades] == sorted(one["index"] for one in grades)
    assert sum(one["outcome"] == "correct" for one in grades) == summarise(run).tasks[0].correct
    searches = pq.read_table(tables[0].path, columns=["index", "tree", "completion_tokens"]).to_pylist()
    assert sum(one["completion_tokens"] for one in searches) == summarise(run).tasks[0].tokens
    with Index(run) as index:
        assert index.count(TRAJECTORIES) == 8
