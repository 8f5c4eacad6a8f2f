"""Selection: the values of UCT, first play, ties and virtual loss on small hand-made families."""

from __future__ import annotations

import math

import pytest

from rstar_eval.solver.backpropagate import agreement, backpropagate
from rstar_eval.solver.select import select, selection_value, uct
from rstar_eval.solver.tree import Node, add_child, close_upwards


def family(*children: tuple[int, float, float | None]) -> Node:
    """A root with children given as (walks, sum of their values, prior)."""
    root = Node()
    for visits, total, prior in children:
        child = add_child(root, f"step {len(root.children or ())}", "code")
        child.visits, child.total, child.prior = visits, total, prior
        if prior is not None:
            child.visits, child.total = visits + 1, total + prior
    return root


def pick(root: Node, parent_visits: int, *, first_play="prior", c=2.0, loss=1.0, tie=lambda node: 0) -> str | None:
    chosen = select(root.children or [], parent_visits, c=c, first_play=first_play, virtual_loss=loss, tie=tie)
    return chosen.tag if chosen else None


def test_uct_is_the_papers_formula():
    assert uct(0.25, 4, 16, 2.0) == pytest.approx(0.25 + 2 * math.sqrt(math.log(16) / 4))
    assert uct(0.25, 4, 0, 2.0) == 0.25
    assert uct(0.0, 0, 9, 2.0) == math.inf


def test_without_a_reward_model_unvisited_steps_go_first():
    assert pick(family((1, 1.0, None), (0, 0.0, None)), 1) == "0.2"


def test_the_order_of_ties_is_the_callers():
    root = family((0, 0.0, None), (0, 0.0, None), (0, 0.0, None))
    assert pick(root, 0, tie=lambda node: {"0.1": 3, "0.2": 1, "0.3": 2}[node.tag]) == "0.2"


def test_a_good_visited_step_can_beat_a_bad_unvisited_one_by_its_prior():
    root = family((1, 0.9, 0.9), (0, 0.0, -0.9))
    assert pick(root, 1) == "0.1"
    assert pick(root, 1, first_play="unvisited_first") == "0.2"


def test_unvisited_steps_are_taken_by_prior():
    root = family((0, 0.0, 0.1), (0, 0.0, 0.7), (0, 0.0, 0.4))
    for first_play in ("prior", "unvisited_first"):
        assert pick(root, 1, first_play=first_play) == "0.2"


def test_an_answer_that_was_judged_competes_by_its_value():
    root = family((0, 0.0, 0.3), (0, 0.0, 0.2))
    answer = add_child(root, "answer", "answer")
    answer.end, answer.answer, answer.prior = "answer", "1", 0.25
    assert pick(root, 0) == "0.1"
    answer.prior = 0.35
    assert pick(root, 0) == "0.3"
    assert answer.visits == 0


def test_exploration_grows_with_c():
    root = family((8, 4.0, None), (1, 0.0, None))
    assert pick(root, 9, c=0.0) == "0.1"
    assert pick(root, 9, c=2.0) == "0.2"


def test_a_walk_under_way_counts_as_a_lost_visit():
    root = family((2, 1.0, None), (2, 0.9, None))
    assert pick(root, 4) == "0.1"
    (root.children or [])[0].pending = 1
    assert pick(root, 5) == "0.2"
    child = (root.children or [])[0]
    assert selection_value(child, 5, 2.0, "prior", 1.0) == pytest.approx(uct(0.0, 3, 5, 2.0))
    assert selection_value(child, 5, 2.0, "prior", 0.0) == pytest.approx(uct(1 / 3, 3, 5, 2.0))


def test_closed_steps_are_never_selected():
    root = family((0, 0.0, 0.9), (0, 0.0, 0.1))
    children = root.children or []
    close_upwards(children[0])
    assert pick(root, 0) == "0.2"
    assert not root.closed
    close_upwards(children[1])
    assert pick(root, 0) is None
    assert root.closed


def test_backpropagation_reaches_the_root_and_no_sibling():
    root = Node()
    one = add_child(root, "a", "code")
    other = add_child(root, "b", "code")
    leaf = add_child(one, "c", "answer")
    backpropagate(leaf, 1.0)
    backpropagate(leaf, -0.5)
    assert [(node.visits, node.q, node.value) for node in (root, one, leaf)] == [(2, 0.25, 1.0)] * 3
    assert (other.visits, other.q, other.value) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("agreeing", "answered", "value"), [(0, 0, 0.0), (1, 1, 1 / 3), (0, 1, -1 / 3), (8, 8, 0.8), (4, 8, 0.0)]
)
def test_agreement(agreeing, answered, value):
    assert agreement(agreeing, answered) == pytest.approx(value)
