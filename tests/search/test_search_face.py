"""The face of the solver: determinism, budgets, ends, refusals, cancellation."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import choose_answer, decided, search
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.types import Question

STRATEGY_NAMES = list(STRATEGIES)


def jitter(seed):
    rng = random.Random(seed)
    return lambda request: rng.random() * 0.004


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
@pytest.mark.parametrize("early_stop", [False, True])
def test_results_do_not_depend_on_what_else_runs(bench, group, strategy, early_stop):
    """Alone, beside fourteen others in another order, and with random delays: the same trajectories, tree, budget."""
    config = SearchConfig(strategy=strategy, rollouts=6, early_stop=early_stop, seed=3)
    questions = [Question(f"id{i}", f"question {i}") for i in range(8)]

    async def many(order, delays):
        tools = bench.tools(bench.World(5, delay=jitter(delays) if delays else None), bench.Judge(5))
        found = await asyncio.gather(*(search(questions[i], tools, config, tree, keep_tree=True) for i, tree in order))
        return dict(zip(order, found, strict=True))

    order = [(i, tree) for i in range(8) for tree in range(2)]
    alone = {key: asyncio.run(many([key], 0))[key] for key in order[:4]}
    together = asyncio.run(many(order, 11))
    shuffled = asyncio.run(many(order[::-1], 23))
    for key, result in alone.items():
        assert together[key] == result
        assert shuffled[key] == result
    if strategy != "greedy":
        first, second = (
            [[step.text for step in one.steps] for one in together[(0, tree)].trajectories] for tree in (0, 1)
        )
        assert first != second  # another tree, other seeds


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_the_budget_counts_every_token_run_and_score(bench, strategy):
    tools = bench.tools(bench.World(2), bench.Judge(2))
    result = bench.run(SearchConfig(strategy=strategy, rollouts=8), tools)
    budget = result.budget
    assert budget.completion_tokens == tools.policy.tokens
    assert budget.policy_calls == len(tools.policy.requests)
    assert budget.prompt_tokens == sum(len(one.prefix) // 4 + 10 for one in tools.policy.requests)
    assert budget.scored_steps == tools.reward.scored
    assert 0 < budget.code_ok <= budget.code_runs
    assert budget.cpu_seconds == pytest.approx(0.001 * budget.code_runs)
    assert all(session.closed for session in tools.executor.sessions)


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_early_stop_gives_the_same_answer_for_no_more_tokens(bench, group, strategy):
    saved = 0
    for world in range(25):
        for scored in (False, True):
            if STRATEGIES[strategy].needs_reward and not scored:
                continue
            config = SearchConfig(strategy=strategy, rollouts=9, top_k=3)
            results = []
            for early_stop in (False, True):
                tools = bench.tools(
                    bench.World(world, answers=("1", "1", "1", "2", "3")), bench.Judge(world) if scored else None
                )
                results.append(bench.run(replace(config, early_stop=early_stop), tools))
            full, early = results
            assert early.trajectories == full.trajectories[: len(early.trajectories)] or strategy == "mcts"
            answers = [choose_answer(one.trajectories, config, group).answer for one in results]
            assert answers[0] == answers[1]
            assert early.budget.completion_tokens <= full.budget.completion_tokens
            assert early.end == "decided" or early == full
            saved += full.budget.completion_tokens - early.budget.completion_tokens
    if strategy in ("majority", "mcts"):
        assert saved > 0


def test_early_stop_leaves_several_trees_to_the_caller(bench, group):
    config = SearchConfig(strategy="majority", rollouts=8, trees=2, early_stop=True)
    tools = bench.tools(bench.World(1, answers=("1",), failing=0, cut=0))
    results = [bench.run(config, tools, tree_index=tree) for tree in (0, 1)]
    assert [len(one.trajectories) for one in results] == [4, 4]
    assert not decided(results[0].trajectories, 8, config, group, scored=False)
    assert decided([*results[0].trajectories, *results[1].trajectories[:1]], 3, config, group, scored=False)


def test_greedy_samples_once_at_temperature_zero(bench):
    tools = bench.tools(bench.World(0))
    result = bench.run(SearchConfig(strategy="greedy", rollouts=8), tools)
    assert len(result.trajectories) == 1
    assert {one.temperature for one in tools.policy.requests} == {0.0}


def test_sampling_takes_few_policy_calls_a_solution(bench):
    tools = bench.tools(bench.World(0, failing=0, cut=0))
    result = bench.run(SearchConfig(strategy="majority", rollouts=10), tools)
    assert len(result.trajectories) == 10
    assert result.budget.policy_calls == 20
    assert {one.until for one in tools.policy.requests} == {"block"}
    assert all(sum(step.tokens for step in one.steps) > 0 for one in result.trajectories)
    assert sum(step.tokens for one in result.trajectories for step in one.steps) == result.budget.completion_tokens


def test_an_exhausted_tree_says_so(bench):
    tools = bench.tools(bench.World(0, answers=("1",), closing=1.0, failing=0, cut=0))
    result = bench.run(SearchConfig(rollouts=500, candidates=2), tools)
    assert result.end == "exhausted"
    assert 0 < len(result.trajectories) < 500


def test_a_token_limit_ends_any_strategy_and_says_so(bench):
    for strategy in STRATEGY_NAMES:
        tools = bench.tools(bench.World(4), bench.Judge(4))
        result = bench.run(SearchConfig(strategy=strategy, rollouts=64, max_tokens_per_problem=150), tools)
        assert result.budget.completion_tokens <= 150, strategy
        if strategy != "greedy":
            assert result.end == "budget", strategy


def test_the_trees_of_a_problem_share_its_token_limit(bench):
    config = SearchConfig(rollouts=64, trees=4, max_tokens_per_problem=400)
    spent = [bench.run(config, bench.tools(bench.World(1)), tree_index=i).budget.completion_tokens for i in range(4)]
    assert sum(spent) <= 400
    assert all(0 < one <= 100 for one in spent)


def test_several_walks_a_trajectory_return_the_best(bench):
    config = SearchConfig(rollouts=2, rollouts_per_trajectory=6)
    tools = bench.tools(bench.World(3, failing=0, cut=0), bench.Judge(3))
    every = bench.run(replace(config, rollouts=12, rollouts_per_trajectory=1), tools).trajectories
    best = bench.run(config, tools).trajectories
    scores = sorted((one.score for one in every if one.score is not None), reverse=True)
    assert sorted((one.score for one in best), reverse=True) == scores[:2]
    assert [one.rollout for one in best] == sorted(one.rollout for one in best)

    votes = bench.run(config, bench.tools(bench.World(3, answers=("1", "1", "1", "2"), failing=0, cut=0))).trajectories
    assert len(votes) == 2
    assert {one.answer for one in votes} == {"1"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strategy": "mtcs"}, "unknown strategy 'mtcs'. did you mean mcts?"),
        ({"strategy": "best-of-n"}, "needs a reward model"),
        ({"strategy": "weighted-majority"}, "needs a reward model"),
        ({"rollouts": 0}, "rollouts is 0"),
        ({"rollouts": 5, "trees": 2}, "rollouts 5 can't be shared equally by trees 2"),
        ({"candidates": -1}, "candidates is -1"),
        ({"max_depth": 0}, "max_depth is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"c_puct": float("nan")}, "c_puct is nan"),
        ({"max_tokens_per_problem": 0}, "max_tokens_per_problem is 0"),
        ({"parallel_rollouts": 0}, "parallel_rollouts is 0"),
        ({"semantics": "reference"}, "needs a reward model"),
        ({"semantics": "reference", "strategy": "majority"}, "no strategy 'majority'"),
        ({"choose": "best_score"}, "needs scored trajectories"),
        ({"choose": "top_k_majority", "early_stop": True}, "needs scored trajectories"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(bench, group, change, said):
    config = SearchConfig(**change)
    with pytest.raises(UserError) as refusal:
        choose_answer(bench.run(config).trajectories, config, group)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_backend_that_fails_ends_the_search_cleanly(bench, strategy):
    class Failing(bench.World):
        async def sample(self, request):
            if len(self.requests) >= 2:
                raise BackendError("the model is gone")
            return await super().sample(request)

    tools = bench.tools(Failing(0), bench.Judge(0))

    async def until_it_fails():
        try:
            while True:  # greedy may need more than one search to come to the third call
                await search(Question("q", "q"), tools, SearchConfig(strategy=strategy, rollouts=8))
        except BackendError as error:
            return str(error), len(asyncio.all_tasks())

    assert asyncio.run(until_it_fails()) == ("the model is gone", 1)
    assert all(session.closed for session in tools.executor.sessions)


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_cancellation_leaves_nothing_behind(bench, strategy):
    tools = bench.tools(bench.World(0, failing=0, cut=0, delay=lambda request: 0.04), bench.Judge(0))

    async def go():
        task = asyncio.ensure_future(
            search(Question("q", "q"), tools, SearchConfig(strategy=strategy, rollouts=8, parallel_rollouts=2))
        )
        await asyncio.sleep(0.06)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(go()) == 1
    assert [session.closed for session in tools.executor.sessions] == [True]


def test_trees_are_kept_as_plain_data_when_asked_for(bench):
    import json

    result = bench.run(SearchConfig(rollouts=4), bench.tools(bench.World(1), bench.Judge(1)), keep_tree=True)
    data = json.loads(json.dumps(result.tree))
    assert data["schema"] == 1
    tags = [node["tag"] for node in data["nodes"]]
    assert tags[0] == "0"
    assert len(set(tags)) == len(tags)
    assert all(tag.rpartition(".")[0] in tags for tag in tags[1:])
    assert data["nodes"][0]["visits"] == 4
    assert bench.run(SearchConfig(rollouts=4)).tree is None


@pytest.mark.parametrize("strategy", ["majority", "beam", "dvts", "mcts"])
@pytest.mark.parametrize(("rollouts", "trees"), [(8, 1), (8, 2), (8, 8), (12, 3), (1, 1)])
def test_trees_share_the_rollouts_the_tokens_and_nothing_else(bench, group, strategy, rollouts, trees):
    config = SearchConfig(strategy=strategy, rollouts=rollouts, trees=trees, candidates=2)
    for limit in (None, 600):
        settings = replace(config, max_tokens_per_problem=limit)
        tools = bench.tools(bench.World(4, failing=0, cut=0), bench.Judge(4))
        results = [bench.run(settings, tools, tree_index=tree) for tree in range(trees)]
        found = [one for result in results for one in result.trajectories]
        if limit is None:
            assert len(found) == rollouts or strategy == "dvts" or any(one.end == "exhausted" for one in results)
            assert all(len(result.trajectories) <= rollouts // trees for result in results)
        else:
            assert all(result.budget.completion_tokens <= limit // trees for result in results)
        assert [one.tree for one in found] == sorted(one.tree for one in found)
        choice = choose_answer(found, settings, group)
        assert choice.trajectory is None or found[choice.trajectory].answer == choice.answer
        again = [bench.run(settings, bench.tools(bench.World(4, failing=0, cut=0), bench.Judge(4)), tree_index=tree)
                 for tree in reversed(range(trees))]  # fmt: skip
        assert again[::-1] == results


@pytest.mark.parametrize("walks", [2, 3, 4])
def test_walks_for_each_trajectory_return_the_best_scored(bench, walks):
    config = SearchConfig(rollouts=4, trees=2, rollouts_per_trajectory=walks)
    tools = bench.tools(bench.World(6, failing=0, cut=0), bench.Judge(6))
    for tree in range(2):
        result = bench.run(config, tools, tree_index=tree)
        everything = bench.run(replace(config, rollouts=4 * walks, rollouts_per_trajectory=1), tools, tree_index=tree)
        assert len(result.trajectories) == 2
        scores = sorted((one.score for one in everything.trajectories if one.score is not None), reverse=True)
        assert sorted((one.score for one in result.trajectories), reverse=True) == scores[:2]
