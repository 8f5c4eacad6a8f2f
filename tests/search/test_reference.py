"""The authors' rules, each on a search small enough to follow by hand."""

from __future__ import annotations

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.reference import reference, select_first
from rstar_eval.solver.reference_data import ended_paths, fine_tuning_picks, preference_pairs
from rstar_eval.solver.reference_text import boxed_answer, program
from rstar_eval.solver.tree import Node, add_child, walk


async def is_one(answer):
    return answer == "1"


def grow(bench, world, *, reward=None, outcome=None, **options):
    config = SearchConfig(semantics="reference", **options)
    return bench.grow(config, bench.tools(bench.World(world), reward, outcome), reference)


def test_the_first_of_equal_children_is_selected():
    root = Node()
    for text in "abc":
        add_child(root, text, "code")
    assert select_first(root, 2.0).tag == "0.1"
    root.children[0].closed = True
    assert select_first(root, 2.0).tag == "0.2"


def test_an_unvisited_child_has_no_exploration_term():
    root = Node(visits=5)
    good, fresh = add_child(root, "a", "code"), add_child(root, "b", "code")
    good.visits, good.total = 1, -0.5
    assert select_first(root, 2.0) is good  # -0.5 + 2 sqrt(ln 5) beats 0
    good.total = -9.0
    assert select_first(root, 2.0) is fresh


def test_only_the_first_answer_of_an_expansion_stays(bench):
    for world in range(12):
        _, root, _, _ = grow(bench, world, outcome=is_one, rollouts=6)
        for node in walk(root):
            children = node.children or []
            if any(child.text.endswith("<end_of_answer>") for child in children):
                assert len(children) == 1


def test_a_failing_block_fails_until_it_closes(bench):
    checked = 0
    for world in range(30):
        _, root, _, _ = grow(bench, world, outcome=is_one, rollouts=8, max_errors=2)
        for node in walk(root):
            if node.error and node.kind == "code" and node.end is None:
                for child in node.children or []:
                    checked += 1
                    assert (child.end, child.error) == ("errors", node.error)
                    assert child.text.endswith(f"<end_of_code>\n<output>{shown(child)}<end_of_output>")
    assert checked > 0


def shown(node):
    return node.error if node.kind == "code" else f"<output>{node.error}<end_of_output>"


def test_test_time_trajectories_are_each_rollouts_best(bench):
    trajectories, root, _, _ = grow(bench, 3, reward=bench.Judge(3), rollouts=8)
    assert trajectories
    assert all(one.answer is not None and one.score is not None for one in trajectories)
    assert [one.rollout for one in trajectories] == sorted({one.rollout for one in trajectories})
    assert root.visits == sum(node.end == "answer" for node in walk(root))


def test_depth_counts_one_level_more_than_in_the_paper(bench):
    _, root, _, _ = grow(bench, 5, outcome=is_one, rollouts=30, max_depth=2)
    assert max(node.depth for node in walk(root)) == 3
    assert all(node.end is not None for node in walk(root) if node.depth == 3)


def test_without_judge_or_outcome_there_is_no_such_search(bench):
    with pytest.raises(UserError, match="semantics reference needs a reward model"):
        grow(bench, 0)


def test_the_face_runs_it(bench):
    tools = bench.tools(bench.World(1), bench.Judge(1))
    result = bench.run(SearchConfig(semantics="reference", rollouts=4), tools, keep_tree=True)
    assert result.budget.completion_tokens == tools.policy.tokens
    assert result.tree is not None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<code>\nx = 1\n<end_of_step>", "x = 1"),
        ("<code>\nx = 1\n<end_of_step>\nprint(x)\n<end_of_code>", "x = 1\n\nprint(x)"),
        ("<code>x = 1\ny = 2\n", "y = 2"),  # the mark takes its line with it
        ("<code>\nx = 1\nprint(x)<end_of_code>", "x = 1"),
        ("<code>\n<end_of_code>", ""),
        ("\nx = 1\n<end_of_step>", "x = 1"),  # no <code>: all of it
        ("\nprint(1)\n<end_of_code>", "print(1)\n<end_of_code>"),
        ("<answer>5.<end_of_answer>", "<answer>5.<end_of_answer>"),
    ],
)
def test_the_program_of_a_block_is_what_stands_between_its_marks(text, code):
    assert program(text) == code


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{1} or \boxed{ \frac{1}{2} }<end_of_answer>", r"\frac{1}{2}"),
        (r"\boxed{5\text{ cm}}", "5cm"),
        (r"\boxed{1\text{ and }2}", "12"),
        ("the boxed value is 5", "the boxed value is 5"),
        (r"\boxed 5", r"\boxed 5"),
        (r"\boxed{}", ""),
        (r"\boxed{5", "boxed{5"),  # never closed, at the very beginning
        (r"a long way to \boxed{5", ""),
        (r"xx \boxed{1}{2", "1"),
        (r"\boxed{\text{a}", "a}"),
        ("boxed \\text{a", "[invalid]"),
        ("\u2028boxed\x0b\u4e2d", "boxed\x0b\u4e2d"),
    ],
)
def test_answers_are_read_as_the_authors_read_them(text, answer):
    assert boxed_answer(text) == answer


def family(root, *specs):
    """Add children given as (text, q, end, answer)."""
    for text, q, end, answer in specs:
        child = add_child(root, text, "code")
        child.visits, child.total, child.end, child.answer = 1, q, end, answer
    return root.children


def right(answer):
    return answer == "1"


def test_pairs_take_two_of_each_side_or_four_of_one():
    root = Node()
    family(root, ("good", 0.9, "answer", "1"), *((f"bad{i}", -0.1 * i, "answer", "2") for i in range(6)))
    pairs = preference_pairs(root, "q", right)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("good", f"bad{i}") for i in (5, 4, 3, 2)]
    assert {(pair.positives, pair.negatives) for pair in pairs} == {(1, 4)}
    root = Node()
    family(root, *((f"g{i}", 0.1 * i, "answer", "1") for i in range(4)))
    family(root, *((f"b{i}", -0.1 * i, "answer", "2") for i in range(4)))
    pairs = preference_pairs(root, "q", right)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("g3", "b3"), ("g3", "b2"), ("g2", "b3"), ("g2", "b2")]


def test_pairs_need_a_positive_margin_and_leave_errors_out():
    root = Node()
    family(root, ("good", 0.1, "answer", "1"), ("better", 0.2, "answer", "2"), ("failed", -1.0, "errors", None))
    assert preference_pairs(root, "q", right) == []
    assert [path.steps[-1].text for path in ended_paths(root, right)] == ["better", "failed", "good"]


def test_picks_are_the_two_best_right_solutions_without_the_word_error():
    root = Node()
    texts = (("a", 0.5), ("b", 0.9), ("c", 0.7), ("an ERROR", 1.0))
    family(root, *((text, q, "answer", "1") for text, q in texts), ("wrong", 1.0, "answer", "2"))
    assert fine_tuning_picks(root, right) == ["b", "c"]
