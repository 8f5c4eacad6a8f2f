"""Trees as text: what is marked, what is folded, where walks went back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rstar_eval.cli import app
from rstar_eval.errors import UserError
from rstar_eval.tree_text import HEADLINE, node_text, tree_lines, walk_lines


def node(tag: str, visits: int = 1, q: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"tag": tag, "visits": visits, "q": q, "kind": "code", "samples": 1, "text": f"x = {tag}", **more}


NODES = [
    {"tag": "0", "visits": 3, "q": 0.1},
    node("0.1", 2, 0.5, prior=0.25, status="ok", code="# Step 1: Add.\nx = 1"),
    node("0.1.1", 1, 1.0, end="answer", answer="42", walk=0),
    node("0.1.2", 1, -1.0, end="errors", status="error", error="NameError: y", walk=1),
    node("0.1.3", 0),
    node("0.2", 1, 0.3, samples=3, logprob=-2.5),
    node("0.2.1", 1, 0.3, end="answer", answer="7", walk=2),
    node("0.3", 0, status="error", end="errors"),
]


def test_nodes_tell_visits_values_and_how_they_ended() -> None:
    assert node_text(NODES[1]) == "0.1 N=2 Q=+0.50 PPM=+0.25 ok # Step 1: Add. | x = 1"
    assert node_text(NODES[2], chosen=True) == "* 0.1.1 N=1 Q=+1.00 answer 42"
    assert node_text(NODES[3]) == "0.1.2 N=1 Q=-1.00 error errors NameError: y"
    assert node_text(NODES[5]) == "0.2 N=1 Q=+0.30 logP=-2.5 x3 x = 0.2"


def test_the_chosen_line_is_marked_and_what_no_walk_took_is_counted() -> None:
    lines = tree_lines(NODES, chosen=2)
    assert [line.text.split(" N=")[0] for line in lines] == [
        "* 0", "├─ 0.1", "│  ├─ 0.1.1", "│  └─ 0.1.2", "└─ * 0.2", "   └─ * 0.2.1",
    ]  # fmt: skip
    assert lines[0].text.endswith("(+1 not followed)")
    assert lines[1].text.endswith("(+1 not followed)")
    assert [line.look for line in lines] == ["chosen", "plain", "plain", "failed", "chosen", "chosen"]


def test_everything_and_depth() -> None:
    full = tree_lines(NODES, everything=True)
    assert len(full) == len(NODES)
    assert not any("not followed" in line.text for line in full)
    assert [line.look for line in full] == ["plain"] * 3 + ["failed", "faint", "plain", "plain", "failed"]
    flat = tree_lines(NODES, depth=1)
    assert [line.text.rpartition("  ")[2] for line in flat[1:]] == ["(+3 below)", "(+1 below)"]


def test_walks_tell_where_they_went_back() -> None:
    assert [line.text for line in walk_lines(NODES, chosen=2)] == [
        "walk 0: took 0.1 > 0.1.1: answer 42, Q +1.00",
        "walk 1: went back to 0.1, took 0.1.2: errors, Q -1.00",
        "* walk 2: went back to 0, took 0.2 > 0.2.1: answer 7, Q +0.30",
    ]
    together = walk_lines(NODES, in_turn=False)
    assert together[1].text == "path 1: took 0.1 > 0.1.2: errors, Q -1.00"


def test_a_tag_that_begins_like_another_is_not_its_parent() -> None:
    nodes = [
        NODES[0],
        node("0.1", end="answer", answer="1", walk=0),
        node("0.10"),
        node("0.10.1", end="answer", answer="2", walk=1),
    ]
    assert walk_lines(nodes)[1].text == "walk 1: went back to 0, took 0.10 > 0.10.1: answer 2, Q +0.00"


def test_a_models_text_can_not_harm_the_terminal() -> None:
    text = node_text(node("0.1", code="x = 1\x1b[2J\u202e" + "y" * 200))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < HEADLINE + 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, nothing_runs_here: None) -> Path:
    path = tmp_path_factory.mktemp("show") / "run"
    arguments = ["--task", "mini_math", "--limit", "2", "--policy", "scripted", "--keep-trees", "--output", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return path


def test_show_prints_the_trees_of_a_problem(run: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["show", str(run), "1", "--tree"]).output
    assert "chosen answer" in shown
    assert "--- tree 0" in shown
    assert "walk 0: took" in shown
    assert "walk 1: went back to" in shown
    short = runner.invoke(app, ["show", str(run), "1", "--tree", "--depth", "1"]).output
    full = runner.invoke(app, ["show", str(run), "1", "--all"]).output
    assert len(short.splitlines()) < len(shown.splitlines()) < len(full.splitlines())


def test_show_without_trees_is_one_clear_error(run: Path) -> None:
    (run / "trees.jsonl.zst").rename(run / "elsewhere")
    try:
        result = CliRunner().invoke(app, ["show", str(run), "1", "--tree"])
        assert isinstance(result.exception, UserError)
        assert "has not stored tree 0" in str(result.exception)
        assert "--keep-trees" in str(result.exception)
        assert isinstance(CliRunner().invoke(app, ["show", str(run), "--tree"]).exception, UserError)
    finally:
        (run / "elsewhere").rename(run / "trees.jsonl.zst")
