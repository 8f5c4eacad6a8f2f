"""Solutions, pairs, values and labels out of trees written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.tree import Node
from rstar_eval.training.build import build
from rstar_eval.training.datasets import (
    DataConfig,
    latest,
    make_data_config,
    read_rows,
    rows_digest,
    write_datasets,
    write_rows,
)
from rstar_eval.training.pairs import edit_share, sample_shares, sampled_worth
from rstar_eval.training.rows import PairRow, Provenance, SftRow
from rstar_eval.training.trees import TrainingTree

PROMPT = "<|user|>:\nHow many?\n<|assistant|>: Let's think step by step and solve the problem with code."
SAMPLED = DataConfig(pair_rule="sampled")


@pytest.fixture
def simple(tree):
    """Two steps: a leads to 42 (once by b, once by b2) and to 7; x to 9 alone, and an unvisited answer."""
    return tree(
        [
            ["a", 0.5, 4, None, 6, ["b", 1.0, 1, "42", 4], ["b2", 0.5, 1, "42", 2], ["c", -1.0, 1, "7", 2]],
            ["x", -1.0, 1, None, 2, ["y", -1.0, 1, "9", 6], ["z", 0.0, 0, "42", 2]],
        ]
    )


def test_the_best_verified_solutions_are_imitated(simple) -> None:
    rows = build([simple], DataConfig()).sft
    assert [(row.response, row.mean_q, row.min_q, row.steps) for row in rows] == [
        ("ab", 0.75, 0.5, 2),
        ("ab2", 0.5, 0.5, 2),
    ]
    assert rows[0].source == Provenance("r", 0, "t", "0123456789abcdef", 0, "0.1.1")
    assert len(build([simple], DataConfig(solutions=1)).sft) == 1


def test_a_solution_with_a_failed_step_is_not_verified_but_may_be_drawn(simple) -> None:
    simple.root.children[0].children[0].status = "error"
    sets = build([simple], DataConfig(solutions=3))
    assert [row.response for row in sets.sft] == ["ab2"]
    assert sorted(row.response for row in sets.rejection) == ["ab", "ab2"]
    assert sorted(row.response for row in sets.random) == ["ab", "ab2", "ac"] or len(sets.random) == 3


def test_random_samples_hold_wrong_solutions_and_depend_on_the_seed_alone(simple) -> None:
    drawn = [tuple(row.response for row in build([simple], DataConfig(seed=seed)).random) for seed in range(20)]
    assert len(set(drawn)) > 1
    assert any("xy" in one or "ac" in one for one in drawn)
    assert drawn[3] == tuple(row.response for row in build([simple], DataConfig(seed=3)).random)


def test_pairs_of_the_paper(simple) -> None:
    pairs = build([simple], DataConfig()).pairs
    steps = [(row.prompt, row.pos, row.neg, row.margin, row.depth) for row in pairs if row.kind == "step"]
    assert steps == [
        (PROMPT, "a", "x", 1.5, 0),
        (PROMPT + "a", "b", "c", 2.0, 1),
        (PROMPT + "a", "b2", "c", 1.5, 1),
    ]
    assert [(row.pos_count, row.neg_count) for row in pairs if row.kind == "step"] == [(1, 2), (2, 1), (2, 1)]
    finals = [(row.pos, row.neg, row.pos_count, row.neg_count) for row in pairs if row.kind == "final"]
    assert finals == [("ab", "xy", 2, 2), ("ab", "ac", 2, 2), ("ab2", "xy", 2, 2), ("ab2", "ac", 2, 2)]
    assert all(row.prompt == PROMPT for row in pairs if row.kind == "final")
    assert (pairs[0].source.node, pairs[0].rejected) == ("0.1", "0.2")


def test_worth_follows_the_sampling_not_the_visits(simple) -> None:
    worth = sampled_worth(simple)
    assert worth["0.1"].share == pytest.approx(6 / 8)
    assert worth["0.2"].share == pytest.approx(2 / 8), "an answer that no walk reached was sampled all the same"
    assert worth["0"].share == pytest.approx((6 * 6 / 8 + 2 * 2 / 8) / 8)
    assert (worth["0.1"].samples, worth["0.1.1"].samples) == (8, None)
    shares = sample_shares(simple.root)
    assert shares["0.1.1"] == pytest.approx(6 / 8 * 4 / 8)


def test_pairs_of_the_sampled_rule(simple) -> None:
    config = replace(SAMPLED, bad_share=0.4)
    pairs = build([simple], config).pairs
    steps = [(row.prompt, row.pos, row.neg) for row in pairs if row.kind == "step"]
    assert steps == [
        (PROMPT, "a", "x"),
        (PROMPT + "a", "b", "c"),
        (PROMPT + "a", "b2", "c"),
        (PROMPT + "x", "z", "y"),
    ]
    finals = [(row.pos, row.neg) for row in pairs if row.kind == "final"]
    assert finals == [("ab", "ac"), ("ab", "xy")], "the likeliest right solution against wrong ones, likeliest first"
    assert sum(row.weight for row in pairs if row.kind == "final") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"bad_share": 0.15}, (PROMPT, "a", "x")),
        ({"bad_share": 0.4, "min_samples": 9}, (PROMPT, "a", "x")),
        ({"bad_share": 0.4, "good_floor": 0.8}, (PROMPT, "a", "x")),
    ],
)
def test_thresholds_of_the_sampled_rule(simple, change: dict[str, float], lost: tuple[str, str, str]) -> None:
    pairs = build([simple], replace(SAMPLED, **change)).pairs
    assert lost not in [(row.prompt, row.pos, row.neg) for row in pairs]
    assert pairs, "answers are known for sure and stay"


def test_the_sampled_rule_needs_counts(simple) -> None:
    with pytest.raises(UserError, match="no sample counts"):
        build([replace(simple, counted=False)], SAMPLED)


def test_filters_and_caps_drop_pairs_and_count_them(simple) -> None:
    sets = build([simple], DataConfig(min_margin=1.8))
    assert [(row.pos, row.neg) for row in sets.pairs if row.kind == "step"] == [("b", "c")]
    assert sets.dropped["margin"] >= 2
    capped = build([simple], DataConfig(step_pairs=2, final_pairs=1))
    assert [(row.pos, row.neg) for row in capped.pairs] == [("a", "x"), ("b", "c"), ("ab", "xy")]
    assert capped.dropped == {"cap": 4}
    assert [row.weight for row in capped.pairs] == [1.0, 1.0, 1.0], "what is left of a group counts once"
    near = build([simple], DataConfig(min_edit=0.99)).pairs
    assert near, "the texts of these steps have no word in common"


def test_equal_values_are_dropped(simple) -> None:
    asked: list[tuple[str, str]] = []

    def same(tree: TrainingTree, one: Node, other: Node) -> bool:
        asked.append((one.text, other.text))
        return one.text == "b2"

    config = DataConfig(drop_same_values=True)
    sets = build([simple], config, same=same)
    assert "b2" not in [row.pos for row in sets.pairs if row.kind == "step"]
    assert sets.dropped == {"same values": 1}
    assert ("a", "x") in asked


def test_trees_of_a_problem_are_one(simple, tree) -> None:
    other = tree(
        [["x", 0.9, 2, None, 3, ["q", 1.0, 1, "42", 1]], ["a", -0.9, 1, None, 1, ["r", -1.0, 1, "8", 1]]], number=1
    )
    sets = build([simple, other], DataConfig())
    assert [row.response for row in sets.sft] == ["xq", "ab"], "the best two over both trees"
    assert (sets.trees, sets.problems, sets.solved) == (2, 1, 1)
    assert ("a", "x") not in [(row.pos, row.neg) for row in sets.pairs if row.kind == "step"]
    assert sets.dropped == {"contradiction": 2}
    double = build([simple, replace(simple, source=replace(simple.source, tree=1))], DataConfig())
    assert [row.response for row in double.sft] == ["ab", "ab2"], "equal rows count once"
    assert len(double.pairs) == len(build([simple], DataConfig()).pairs)
    with pytest.raises(UserError, match="come apart"):
        build([simple, tree([], problem="f" * 16), simple], DataConfig())


def test_values_and_labels(simple) -> None:
    sets = build([simple], DataConfig())
    assert [(row.step, row.q, row.visits, row.depth) for row in sets.values][:2] == [("a", 0.5, 4, 0), ("b", 1.0, 1, 1)]
    assert "z" not in [row.step for row in sets.values], "no value reached it"
    assert len(build([simple], DataConfig(min_visits=2)).values) == 1
    assert [(row.response, row.right) for row in sets.outcomes] == [
        ("ab", True),
        ("ab2", True),
        ("ac", False),
        ("xy", False),
    ]
    one_each = build([simple], DataConfig(label_rows=1)).outcomes
    assert sorted(row.right for row in one_each) == [False, True]


def test_the_same_trees_give_the_same_bytes(simple, tmp_path: Path) -> None:
    manifests = [
        write_datasets(tmp_path / name, build([simple], DataConfig()), DataConfig(), runs=["r"]) for name in "ab"
    ]
    assert manifests[0] == manifests[1]
    for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    stored = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert stored["data"]["pairs"]["rows"] == 7
    assert stored["data"]["pairs"]["statistics"]["pairs_a_prompt"] == {"1": 1, "2": 1}
    assert stored["data"]["sft"]["sha256"] == rows_digest(build([simple], DataConfig()).sft)


def test_rows_are_read_as_they_were_written(simple, tmp_path: Path) -> None:
    sets = build([simple], DataConfig())
    for kind in ("sft", "pairs", "values", "outcomes"):
        rows = sets.rows(kind)
        write_rows(tmp_path / "x.jsonl", rows)
        assert read_rows(tmp_path / "x.jsonl", kind) == rows
    odd = [SftRow("lone \ud800 surrogate", "ünïcode \x1b")]
    write_rows(tmp_path / "odd.jsonl", odd)
    assert read_rows(tmp_path / "odd.jsonl", "sft") == odd


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ('{"question": 1, "response": "r", "source": {}}\n', "sft", "question"),
        ('{"question": "q", "response": "r", "source": {}}\n{"question"\n', "sft", "line 2 is no JSON"),
        ('{"question": "q", "response": "r", "source": {}}\n', "pairs", "SFT rows"),
        ("", "sft", "no rows"),
        ('{"prompt": "p", "pos": "a", "neg": "b", "pos_count": 1, "neg_count": 1}\n', "sft", "preference pairs"),
        ('{"text": "p"}\n', "sft", "known formats"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, text: str, kind: str, word: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=word):
        read_rows(tmp_path / "x.jsonl", kind)  # type: ignore[arg-type]


def test_the_latest_round_of_each_problem_wins() -> None:
    def row(problem: str, text: str) -> SftRow:
        return SftRow("q", text, source=Provenance(problem=problem))

    first, second = [row("a", "1"), row("b", "1"), row("b", "2")], [row("c", "3"), row("b", "3")]
    assert [one.response for one in latest([first, second])] == ["1", "3", "3"]


def test_weights() -> None:
    counts = [(2, 2), (1, 4), (3, 1), (0, 3), (2, 0), (0, 0)]
    weights = [PairRow("p", "a", "b", good, bad).weight for good, bad in counts]
    assert weights == pytest.approx([0.25, 0.25, 1 / 3, 1 / 3, 0.5, 1.0])


def test_edit_share() -> None:
    assert edit_share("x = 1", "x = 1") == 0
    assert edit_share("", "") == 0
    assert edit_share("a b c", "") == 1
    assert edit_share("kitten sat", "mitten sat on") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "change", [{"solutions": 0}, {"bad_share": 1.5}, {"min_margin": -1}, {"pair_rule": "best"}, {"soluions": 2}]
)
def test_settings_out_of_range_are_refused(simple, change: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        build([simple], make_data_config(DataConfig(), change))
