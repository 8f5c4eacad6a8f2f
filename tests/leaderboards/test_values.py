"""What another rule, judge or number of trajectories would have given, from stored scores."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from rstar_eval.leaderboards.experiments import Source
from rstar_eval.leaderboards.scores import ProblemScore, RunScores, scores_of_run, walk_tokens
from rstar_eval.leaderboards.values import chosen_trajectory, curve_tokens, curve_values, problem_values
from rstar_eval.records import read_log
from rstar_eval.stats import majority_right
from rstar_eval.trees import read_trees

CONFIG = {"strategy": "majority", "rollouts": 6, "trees": 1, "choose": "auto", "top_k": 2, "seed": 0}
GROUPS, RIGHT = (0, 1, 1, None, 0, 2), "011001"  # class 1 and 2 are right, 0 is not
SCORES = (0.9, 0.1, 0.4, None, -0.5, 0.8)


def run(strategy: str = "majority", **changes: object) -> RunScores:
    problem = ProblemScore(
        "p", 0, "1", "correct", 60, GROUPS, RIGHT, None, None, (10, 20, 30, 40, 50, 60), {"judge": SCORES}
    )
    return RunScores("t", {"config": {**CONFIG, "strategy": strategy, **changes}}, (problem,))


def over_all_orders(k: int, value: object) -> float:
    orders = list(permutations(range(6)))
    return sum(value(order[:k]) for order in orders) / len(orders)  # type: ignore[operator]


def right_of_majority(places: tuple[int, ...]) -> float:
    return majority_right([GROUPS[i] for i in places], [RIGHT[i] == "1" for i in places])


def right_of_best(places: tuple[int, ...]) -> float:
    answered = [i for i in places if GROUPS[i] is not None]
    return float(bool(answered) and RIGHT[max(answered, key=lambda i: SCORES[i] or 0.0)] == "1")


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_samples_have_no_order_so_that_a_curve_is_the_mean_over_all_orders(k: int) -> None:
    majority = curve_values(run(), Source(choose="majority"), [k])["p"][0]
    best = curve_values(run(), Source(choose="best_score", judge="judge"), [k])["p"][0]
    assert majority == pytest.approx(over_all_orders(k, right_of_majority), abs=0.12)  # a mean over 100 of 720 orders
    assert best == pytest.approx(over_all_orders(k, right_of_best), abs=0.12)


def test_all_samples_are_one_set_whatever_their_order() -> None:
    assert curve_values(run(), Source(choose="best_score", judge="judge"), [6])["p"] == [0.0]  # .9 is of class 0
    assert curve_values(run(), Source(choose="majority"), [6])["p"] == [0.5]  # classes 0 and 1 are tied


def test_a_weighted_vote_adds_the_weights_of_a_class() -> None:
    # class 0: .95 + .25 = 1.2, class 1: .55 + .7 = 1.25, class 2: .9
    assert curve_values(run(), Source(choose="weighted_majority", judge="judge"), [6])["p"] == [1.0]


def test_a_trees_walks_are_taken_in_their_order() -> None:
    found = curve_values(run("mcts"), Source(choose="best_score", judge="judge"), [1, 2, 3, 6])["p"]
    assert found == [0.0, 0.0, 0.0, 0.0]
    assert curve_values(run("mcts"), Source(choose="majority"), [1, 3])["p"] == [0.0, 1.0]


def test_coverage_is_pass_at_k() -> None:
    assert curve_values(run("mcts"), Source(), [1, 2, 6], "coverage")["p"] == [0.0, 1.0, 1.0]
    assert curve_values(run(), Source(), [1, 2], "coverage")["p"] == [0.5, pytest.approx(1 - 3 / 15)]


def test_more_than_there_is_counts_with_all_that_there_is() -> None:
    assert curve_values(run("mcts"), Source(choose="majority"), [64]) == curve_values(
        run("mcts"), Source(choose="majority"), [6]
    )
    assert curve_tokens(run("mcts"), [64]) == [60]


def test_tokens_of_the_first_k() -> None:
    assert curve_tokens(run("mcts"), [1, 2, 6]) == [10, 20, 60]
    assert curve_tokens(run(), [1, 3]) == [10, 30]
    assert problem_values(run(), Source(), "tokens") == {"p": 10}


def test_a_rule_that_needs_scores_does_not_guess_them() -> None:
    with pytest.raises(KeyError):
        curve_values(run(), Source(choose="best_score"), [2])
    with pytest.raises(KeyError):
        curve_values(run(), Source(choose="best_score", judge="other"), [2])


def test_tokens_of_walks_are_those_of_their_new_expansions() -> None:
    nodes = [
        {"tag": "0"}, {"tag": "0.1", "tokens": 5, "samples": 3}, {"tag": "0.2", "tokens": 7, "samples": 1},
        {"tag": "0.1.1", "tokens": 4, "samples": 2, "walk": 0}, {"tag": "0.1.2", "tokens": 6, "samples": 1, "walk": 1},
        {"tag": "0.2.1", "tokens": 9, "samples": 1, "walk": 2},
    ]  # fmt: skip
    assert walk_tokens(nodes, [0, 1, 2]) == [5 * 3 + 7 + 4 * 2 + 6, 0, 9]


def test_on_a_real_run_tokens_add_up_and_all_trajectories_give_the_stored_choice(scripted_run: Path) -> None:
    scores, log = scores_of_run(scripted_run, "mini_math"), read_log(scripted_run)
    budgets = {one.problem: one.budget.completion_tokens for one in log.searches.values()}
    assert all(one.spent is not None and one.spent[-1] == budgets[one.problem] == one.tokens for one in scores.problems)
    for tree in read_trees(scripted_run):
        walks = [path.rollout for path in log.searches["mini_math", tree.problem, 0].trajectories]
        assert sum(walk_tokens(tree.nodes, walks)) == budgets[tree.problem]
    stored = {grade.problem: grade.choice["trajectory"] for grade in log.grades.values()}
    chosen = {one.problem: chosen_trajectory(one, scores.config, "top_k_majority", 8) for one in scores.problems}
    assert chosen == stored
    assert len(set(chosen.values())) > 1
