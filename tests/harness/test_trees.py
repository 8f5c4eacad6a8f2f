"""Stored trees: nothing is lost in packing, a kill at any byte leaves whole trees, nothing is stored twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.evaluation import run_config
from rstar_eval.progress import LineProgress
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.executor import start_executor
from rstar_eval.solver.reward.scripted import make_scripted
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.types import Question
from rstar_eval.store import RunStore
from rstar_eval.trees import TREES, pack, read_tree, read_trees, record_of, unpack

SETTINGS = {"tasks": "mini_math", "policy": "scripted", "candidates": 3, "rollouts": 4, "keep_trees": True}


def quiet() -> LineProgress:
    from rich.console import Console

    return LineProgress(Console(quiet=True))


def evaluated(path: Path, **changes: Any) -> Path:
    return run_config(build_config({**SETTINGS, "limit": 4, **changes}), path, quiet()).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, nothing_runs_here: None) -> Path:
    return evaluated(tmp_path_factory.mktemp("trees") / "run", reward="scripted", trees=2)


def random_nodes(draw: Any) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = [{"tag": "0", "visits": draw(st.integers(0, 9)), "q": 0.0}]
    children = [0]
    texts = st.text(max_size=12)
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.integers(0, len(nodes) - 1))
        children[parent] += 1
        children.append(0)
        text = draw(texts)
        node = {
            "tag": f"{nodes[parent]['tag']}.{children[parent]}",
            "visits": draw(st.integers(0, 9)),
            "q": draw(st.floats(-1, 1)),
            "kind": draw(st.sampled_from(["code", "final_code", "answer", "malformed"])),
            "samples": draw(st.integers(1, 5)),
            "text": text,
        }
        optional = {
            "code": draw(st.one_of(texts, st.just(text[1:]))), "prior": draw(st.floats(-1, 1)), "walk": 0,
            "logprob": draw(st.floats(-99, 0)), "output": draw(texts), "answer": draw(texts), "end": "answer",
        }  # fmt: skip
        for key in draw(st.sets(st.sampled_from(sorted(optional)))):
            node[key] = optional[key]
        nodes.append(node)
    return nodes


@settings(max_examples=150, deadline=None)
@given(st.composite(random_nodes)())
def test_packing_loses_nothing(nodes: list[dict[str, Any]]) -> None:
    order = sorted(nodes, key=lambda node: [int(part) for part in node["tag"].split(".")])  # depth first, as stored
    tree = {"schema": 1, "nodes": order}
    assert unpack(json.loads(json.dumps(pack(tree)))) == tree


def test_a_key_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no column holds"):
        pack({"schema": 1, "nodes": [{"tag": "0", "visits": 0, "q": 0.0, "colour": "red"}]})
    with pytest.raises(UserError, match="schema 9"):
        unpack({"schema": 9, "parent": []})


def test_a_real_search_is_stored_as_it_was(tmp_path: Path) -> None:
    async def go() -> Any:
        executor = await start_executor()
        policy = await make_policy("scripted?format=rstar")
        try:
            tools = Tools(policy, executor, make_scripted(), lambda answers: list(range(len(answers))))
            return await search(Question("ab", "What is 3 + 4?"), tools, SearchConfig(rollouts=6), keep_tree=True)
        finally:
            await executor.close()

    result = asyncio.run(go())
    with RunStore(tmp_path) as store:
        store.write_tree("ab", 0, result.tree)
        store.write_tree("cd", 1, result.tree)
    assert read_tree(tmp_path, "ab", 0) == read_tree(tmp_path, "cd", 1) == result.tree
    assert read_tree(tmp_path, "ab", 1) is None
    assert read_tree(tmp_path / "nowhere", "ab", 0) is None


def test_every_search_has_its_tree_with_all_that_training_needs(run: Path) -> None:
    trees = list(read_trees(run))
    assert len(trees) == 8
    assert {(one.index, one.tree) for one in trees} == {(i, t) for i in range(4) for t in range(2)}
    for one in trees:
        assert one.task == "mini_math"
        assert one.data == read_tree(run, one.problem, one.tree)
        assert one.nodes[0]["tag"] == "0"
        ends = [node for node in one.nodes if "walk" in node]
        assert sorted(node["walk"] for node in ends) == list(range(2))
        for node in one.nodes[1:]:
            assert {"tag", "visits", "q", "kind", "samples", "text", "tokens"} <= node.keys()
            if node.get("end") == "answer":
                assert "answer" in node
                assert "prior" in node
        assert any("code" in node and node["status"] == "ok" for node in one.nodes[1:])


def test_zstd_alone_reads_the_file(run: Path) -> None:
    import io

    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO((run / TREES).read_bytes()), read_across_frames=True
    ) as reader:
        lines = reader.read().decode().splitlines()
    assert len(lines) == 8
    assert all("parent" in json.loads(line) for line in lines)


def test_a_kill_at_any_byte_leaves_whole_trees_and_resuming_stores_each_once(tmp_path: Path, run: Path) -> None:
    whole = (run / TREES).read_bytes()
    searches = (run / "trajectories.jsonl").read_bytes().splitlines(keepends=True)
    undisturbed = {(one.problem, one.tree): one.data for one in read_trees(run)}
    sizes = [len(record_of((one.problem, one.tree), one.data)) for one in read_trees(run)]
    third = sum(sizes[:3])
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((run / "manifest.json").read_bytes())
    for cut in [*range(sum(sizes[:2]) + 1, third, 97), third - 1, third]:
        (folder / TREES).write_bytes(whole[:cut])
        (folder / "trajectories.jsonl").write_bytes(b"".join(searches[:2]) + searches[2][:40])
        (folder / "grades.jsonl").unlink(missing_ok=True)
        with RunStore(folder) as store:
            assert any(TREES in note for note in store.notes)
        assert (folder / TREES).read_bytes() == whole[: sum(sizes[:2])]
    evaluated(folder, reward="scripted", trees=2)
    again = list(read_trees(folder))
    assert len(again) == 8
    assert {(one.problem, one.tree): one.data for one in again} == undisturbed
    evaluated(folder, reward="scripted", trees=2)
    assert len(list(read_trees(folder))) == 8


def test_damage_is_one_clear_error(tmp_path: Path, run: Path) -> None:
    for name in ("manifest.json", "trajectories.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    data = bytearray((run / TREES).read_bytes())
    data[80] ^= 255
    (tmp_path / TREES).write_bytes(data)
    with pytest.raises(UserError, match="is damaged at byte"):
        list(read_trees(tmp_path))
    (tmp_path / TREES).write_bytes(b"no trees here")
    with pytest.raises(UserError, match="is damaged at byte 0"):
        list(read_trees(tmp_path))
    with pytest.raises(UserError, match="no run folder"):
        list(read_trees(tmp_path / "none"))


def test_strategies_without_a_tree_store_none(tmp_path: Path, nothing_runs: None) -> None:
    path = evaluated(tmp_path / "run", strategy="majority")
    assert not (path / TREES).exists()
    assert list(read_trees(path)) == []
