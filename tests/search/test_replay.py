"""Replay of scripted searches: the authors' trees are reproduced, and any difference is found and named."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.replay import read_cases, replay, replay_cases, same

FIRST = "<code>\n# Step 1\nx = 7\n<end_of_step>"
PRINTED = "\n# Print\nprint(x)\n<end_of_code>"
SHOWN = PRINTED + "\n<output>7<end_of_output>"
ANSWER = "\n<answer>It is \\boxed{7}.<end_of_answer>"
FAILED = "<code>\n# Step 1\nz = 1/0\n<end_of_step>"

PAIR = {"prefix": "", "chosen_step": "", "rejected_step": "", "step_margin": 1, "pos_count": 1, "neg_count": 1}


def node(visits: int, q: float, text: str, final_answer: str = "", value: float | None = None) -> dict[str, object]:
    return {
        "visits": visits,
        "q": q,
        "value": q if value is None else value,
        "final_answer": final_answer,
        "text": text,
    }


def case() -> dict[str, object]:
    """A search worked out by hand: two candidates, one of which raises; one right answer after two more steps."""
    return {
        "id": "hand-1",
        "mode": "sft_sample",
        "config": {"n": 2, "rollouts": 2, "max_depth": 4, "c_puct": 2.0, "errors_threshold": 1, "need_value": True},
        "question": "What is seven?",
        "ground_truth": "7",
        "policy": {
            "": [["<code>\n# Step 1\nx = 7\n", "<end_of_step>"], ["<code>\n# Step 1\nz = 1/0\n", "<end_of_step>"]],
            FIRST: [["\n# Print\nprint(x)\n", "<end_of_code>"]] * 2,
            FIRST + SHOWN: [["\n# again", "<end_of_step>"], ["\n<answer>It is \\boxed{7}.", "<end_of_answer>"]],
        },
        "reward": {FIRST: 0.5, FIRST + SHOWN: -0.25},
        "tree": {
            "0": node(1, 1.0, ""),
            "0.1": node(2, 0.75, FIRST, value=0.5),
            "0.2": node(
                1,
                -1.0,
                FAILED + "<end_of_code>\n<output>ZeroDivisionError: division by zero<end_of_output>",
                "Too many consecutive steps have code errors.",
            ),
            "0.1.1": node(2, 0.375, SHOWN, value=-0.25),
            "0.1.1.1": node(1, 1.0, ANSWER, "7"),
        },
        "rollout_best": {},
        "trajectories": [
            {
                "solution": FAILED + "<end_of_code>\n<output>ZeroDivisionError: division by zero<end_of_output>",
                "final_q": -1,
                "q_values": [-1.0],
                "answer": "Too many consecutive steps have code errors.",
            },
            {"solution": FIRST + SHOWN + ANSWER, "final_q": 1, "q_values": [0.75, 0.375, 1.0], "answer": "7"},
        ],
        "preference_pairs": [],
        "sft_top2": [FIRST + SHOWN + ANSWER],
    }


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def run(path: Path, executor: object) -> tuple[int, list[dict[str, object]]]:
    out = io.StringIO()
    code = replay_cases(path, "reference", out, executor)  # type: ignore[arg-type]
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_public_cases_are_reproduced_exactly(shared_data, executor):
    code, lines = run(shared_data / "search" / "reference_trees.jsonl", executor)
    assert [line for line in lines if line["mismatches"]] == []
    assert code == 0
    assert len(lines) == 72


def test_a_case_worked_out_by_hand_is_reproduced(tmp_path, executor):
    assert run(write(tmp_path, case()), executor) == (0, [{"id": "hand-1", "nodes": 5, "mismatches": 0}])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c["tree"]["0.1"].update(visits=3), "visits"),
        (lambda c: c["tree"]["0.1"].update(q=0.7501), "q is"),
        (lambda c: c["tree"]["0"].update(value=-1.0), "value"),
        (lambda c: c["tree"]["0.1.1.1"].update(final_answer="8"), "final_answer"),
        (lambda c: c["tree"].pop("0.2"), "not in the case"),
        (lambda c: c["tree"].update({"0.3": node(0, 0.0, "x")}), "0.3 is missing"),
        (lambda c: c.update(rollout_best={"0": ["7", 0.5]}), "rollout 0"),
        (lambda c: c["trajectories"].pop(), "of trajectory"),
        (lambda c: c["trajectories"][1].update(final_q=-1), "trajectory 1"),
        (lambda c: c["preference_pairs"].append(PAIR), "preference pair"),
        (lambda c: c.update(sft_top2=[]), "fine-tuning pick"),
        (lambda c: c["policy"].pop(FIRST), "left the script"),
        (lambda c: c["reward"].pop(FIRST), "left the script"),
    ],
)
def test_every_kind_of_difference_is_found_and_named(tmp_path, executor, change, found):
    changed = case()
    change(changed)
    code, lines = run(write(tmp_path, case(), changed), executor)
    assert code == 1
    assert lines[0]["mismatches"] == 0
    assert lines[1]["mismatches"] >= 1
    assert found in str(lines[1]["first"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no cases"),
        ("{", "line 1 is not JSON"),
        ('{"id": "x"}', "line 1: mode: field required"),
        (json.dumps(case()) + "\n" + json.dumps(case() | {"mode": "train"}), "line 2: mode"),
        (json.dumps(case() | {"policy": []}), "line 1: policy"),
    ],
)
def test_a_malformed_file_is_one_clear_error(tmp_path, executor, content, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        run(write(tmp_path, content), executor)


def test_a_missing_file_and_other_semantics_are_refused(tmp_path, executor):
    with pytest.raises(UserError, match="cannot read"):
        run(tmp_path / "none.jsonl", executor)
    with pytest.raises(UserError, match="semantics reference"):
        replay_cases(write(tmp_path, case()), "paper", io.StringIO(), executor)


def test_sessions_are_closed_even_when_the_search_leaves_its_script(tmp_path, executor):
    broken = case()
    broken["policy"] = {}
    run(write(tmp_path, broken, case()), executor)
    assert [session.closed for session in executor.sessions] == [True, True]


def test_cases_are_read_into_records(tmp_path):
    (one,) = read_cases(write(tmp_path, case()))
    assert one.config.n == 2
    assert one.tree["0.1"].visits == 2


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.1234567, 0.123457, True),
        (0.12346, 0.12345, False),
        ([1.0, "a"], (1, "a"), True),
        ([1.0], [1.0, 2.0], False),
        (None, ("a", 1.0), False),
        ("7", 7, False),
    ],
)
def test_numbers_are_compared_within_their_rounding(one, other, equal):
    assert same(one, other) is equal


def odd_case(policy: dict[str, list[list[str | None]]], tree: dict[str, dict[str, object]]) -> dict[str, object]:
    """A case of one rollout without a reward model, where only the tree matters."""
    config = {"n": 3, "rollouts": 1, "max_depth": 4, "c_puct": 2.0, "errors_threshold": 2, "need_value": False}
    return {
        "id": "odd", "mode": "sample", "config": config, "question": "q\u2028\x85\x0b", "ground_truth": "7",
        "policy": policy, "reward": {}, "tree": tree, "rollout_best": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "tree"),
    [
        pytest.param(
            {"": [["<code>\nx = 1\n", "<end_of_step>"], ["<code>\nx = 1\n ", "<end_of_step>"]]},
            {
                "0": node(0, 0, "", value=0),
                "0.1": node(0, 0, "<code>\nx = 1\n<end_of_step>", value=0),
                "0.2": node(0, 0, "<code>\nx = 1\n <end_of_step>", value=0),
            },
            id="texts that differ by a blank are two candidates",
        ),
        pytest.param(
            {"": [["<code>\nx = 1\n", "<end_of_step>"]] * 2 + [["<code>\nx = 1\n", "<end_of_code>"]]},
            {"0": node(0, 0, "", value=0), "0.1": node(0, 0, "<code>\nx = 1\n<end_of_step>", value=0)},
            id="the same text is one candidate whatever stopped it",
        ),
        pytest.param({"": []}, {"0": node(0, 0, "", value=0)}, id="nothing sampled leaves the node as it was"),
        pytest.param(
            {"": [["we box nothing: \\boxed{}.", "<end_of_step>"]], "we box nothing: \\boxed{}.<end_of_step>": []},
            {"0": node(0, 0, "", value=0), "0.1": node(0, 0, "we box nothing: \\boxed{}.<end_of_step>", value=0)},
            id="an empty box is a step without code",
        ),
        pytest.param(
            {"": [["# a boxed value", "<end_of_step>"]]},
            {"0": node(1, -1, ""), "0.1": node(1, -1, "# a boxed value<end_of_step>", "# a boxed value<end_of_step>")},
            id="the word boxed alone makes an answer of the whole step",
        ),
        pytest.param(
            {"": [["<code>\n# \u4e2d \U0001f642 \u00e9\nprint(7)\n", "<end_of_code>"]]},
            {
                "0": node(0, 0, "", value=0),
                "0.1": node(
                    0,
                    0,
                    "<code>\n# \u4e2d \U0001f642 \u00e9\nprint(7)\n<end_of_code>\n<output>7<end_of_output>",
                    value=0,
                ),
            },
            id="unicode and line separators are text",
        ),
    ],
)
def test_odd_candidates_are_taken_as_the_authors_take_them(tmp_path, executor, policy, tree):
    policy = dict(policy)
    for one in tree.values():
        policy.setdefault(str(one["text"]), [])
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps(odd_case(policy, tree), ensure_ascii=False), encoding="utf-8")
    (read,) = read_cases(path)
    assert read.question == "q\u2028\x85\x0b"
    differences, _ = asyncio.run(replay(read, executor))
    assert differences == []
