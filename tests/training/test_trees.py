"""Stored trees come back as they were, and their values can be made those of a search for training."""

from __future__ import annotations

import asyncio

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.scripted import ScriptedPolicy
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.executor import start_executor
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.reward.scripted import ScriptedReward
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.tree import tree_data, walk
from rstar_eval.solver.types import Question, SampleRequest, Step, Trajectory
from rstar_eval.training.plan import expansions
from rstar_eval.training.rows import Provenance
from rstar_eval.training.trees import annotated, read_nodes, training_tree, tree_of, visited

DATA = {
    "schema": 1,
    "nodes": [
        {"tag": "0", "visits": 49, "q": 1 / 49},
        {"tag": "0.1", "visits": 3, "q": 1 / 3, "kind": "code", "samples": 5, "text": "a\n", "tokens": 4},
        {"tag": "0.1.1", "visits": 1, "q": 1.0, "kind": "answer", "samples": 1, "end": "answer", "answer": "42"},
        {"tag": "0.2", "visits": 0, "q": 0.0, "kind": "code", "samples": 3, "text": "c", "status": "ok", "prior": 0.25},
    ],
}  # fmt: skip


def test_a_stored_tree_comes_back_as_it_was() -> None:
    root, counted = read_nodes(DATA)
    assert counted
    assert tree_data(root) == DATA


def test_a_tree_without_sample_counts_says_so() -> None:
    nodes = [{key: value for key, value in node.items() if key != "samples"} for node in DATA["nodes"]]  # type: ignore[attr-defined]
    assert read_nodes({"schema": 1, "nodes": nodes})[1] is False


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"schema": 2, "nodes": DATA["nodes"]}, "schema 2"),
        ({"schema": 1, "nodes": []}, "schema"),
        ({"schema": 1, "nodes": [DATA["nodes"][0], DATA["nodes"][2]]}, "broken node"),
        ({"schema": 1, "nodes": [*DATA["nodes"], DATA["nodes"][1]]}, "tag 0.1 twice"),
        ({"schema": 1, "nodes": [{"tag": "0", "q": 1.0}]}, "visits"),
    ],
)
def test_what_is_no_tree_is_refused(data: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        read_nodes(data)


def test_visited_leaves_out_what_no_value_reached() -> None:
    root, _ = read_nodes(DATA)
    assert [node.tag for node in walk(visited(root))] == ["0", "0.1", "0.1.1"]
    assert [node.tag for node in walk(root)] == ["0", "0.1", "0.1.1", "0.2"], "the tree itself is left alone"


def test_the_right_answer_is_asked_for_once() -> None:
    asked: list[str] = []
    tree = training_tree("q", DATA, lambda answer: asked.append(answer) is None, Provenance())
    assert tree.is_right(tree.root.children[0].children[0])  # type: ignore[index]
    assert tree.is_right(tree.root.children[0].children[0])  # type: ignore[index]
    assert asked == ["42"]


def _script(request: SampleRequest, i: int) -> tuple[str, str | None]:
    depth = request.prefix.count("<end_of_step>")
    value = (request.seed + i) % 5
    if "<answer>" not in request.prefix and request.prefix.endswith("<end_of_output>"):
        return f"\n<answer>\\boxed{{{value}}}", "<end_of_answer>"
    opening = "<code>" if depth == 0 else ""
    if value == 4:
        return f"{opening}\nx{depth} = 1 / 0\n", "<end_of_step>"
    if depth >= 2:
        return f"\nprint({value})\n", "<end_of_code>"
    return f"{opening}\nx{depth} = {value}\n", "<end_of_step>"


def test_annotation_gives_what_a_search_for_training_found() -> None:
    """Annotating a tree of a search that was told the outcome changes nothing, with a reward model and without."""

    async def outcome(answer: str) -> bool:
        return answer == "3"

    async def grow() -> list[tuple[dict[str, object], int]]:
        policy = ScriptedPolicy("s", RStarFormat(), _script, {})
        rewards = [None, ScriptedReward("noise", lambda question, text: (len(text) % 7 - 3) / 4, {})]
        executor = await start_executor("accidents-only", workers=1)
        found = []
        try:
            for seed in range(6):
                config = SearchConfig(rollouts=12, candidates=4, seed=seed)
                tools = Tools(policy, executor, rewards[seed % 2], lambda answers: list(range(len(answers))), outcome)
                result = await search(Question("q" * 16, "q"), tools, config, keep_tree=True)
                assert result.tree is not None
                found.append((result.tree, result.budget.policy_calls))
        finally:
            await executor.close()
        return found

    rights = 0
    for data, calls in asyncio.run(grow()):
        tree = training_tree("q", data, lambda answer: answer == "3", Provenance())
        again = annotated(tree)
        assert [(n.tag, n.visits, n.q) for n in walk(again.root)] == [(n.tag, n.visits, n.q) for n in walk(tree.root)]
        rights += sum(tree.is_right(node) for node in walk(tree.root))
        assert calls <= expansions(12, 4, 6), "the plan's bound on expansions holds"
    assert rights, "the test is empty without right answers"


def test_finished_paths_without_a_value_get_one() -> None:
    """Beam search numbers its trajectories, but brings no values back."""
    nodes = [
        {"tag": "0", "visits": 0, "q": 0.0},
        {
            "tag": "0.1",
            "visits": 0,
            "q": 0.0,
            "kind": "answer",
            "samples": 1,
            "end": "answer",
            "answer": "3",
            "walk": 0,
        },
        {
            "tag": "0.2",
            "visits": 0,
            "q": 0.0,
            "kind": "answer",
            "samples": 1,
            "end": "answer",
            "answer": "4",
            "walk": 1,
        },
        {"tag": "0.3", "visits": 0, "q": 0.0, "kind": "answer", "samples": 1, "end": "answer", "answer": "3"},
    ]
    tree = training_tree("q", {"schema": 1, "nodes": nodes}, lambda answer: answer == "3", Provenance())
    found = [(node.tag, node.visits, node.q) for node in walk(annotated(tree).root)]
    assert found == [("0", 2, 0.0), ("0.1", 1, 1.0), ("0.2", 1, -1.0), ("0.3", 0, 0.0)]


def test_samples_without_a_search_make_a_tree() -> None:
    def step(text: str) -> Step:
        return Step(text, "code", status="ok")

    one = Trajectory((step("a"), step("b")), "answer", "42")
    other = Trajectory((step("a"), step("c")), "answer", "7")
    root = tree_of([one, other, one], lambda answer: answer == "42")
    found = {node.tag: (node.text, node.samples, node.visits, node.q, node.answer) for node in walk(root)}
    assert found["0.1"] == ("a", 3, 3, pytest.approx(1 / 3), None)
    assert found["0.1.1"] == ("b", 2, 2, 1.0, "42")
    assert found["0.1.2"] == ("c", 1, 1, -1.0, "7")
