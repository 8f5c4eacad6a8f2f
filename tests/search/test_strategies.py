"""Beam search, DVTS, shared tokens, scripted rewards, and the registry."""

from __future__ import annotations

import asyncio
import json

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.beam import beam, dvts
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.linear import shares
from rstar_eval.solver.reward.scripted import make_scripted, noise
from rstar_eval.solver.search import choose_answer
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.tree import path_to, walk
from rstar_eval.solver.types import ParsedStep


def test_the_registry_lists_every_strategy_with_its_needs():
    assert {name: STRATEGIES[name].needs_reward for name in STRATEGIES} == {
        "greedy": False,
        "majority": False,
        "best-of-n": True,
        "weighted-majority": True,
        "beam": False,
        "dvts": False,
        "mcts": False,
    }
    assert all(STRATEGIES[name].description and "\n" not in STRATEGIES[name].description for name in STRATEGIES)


@pytest.mark.parametrize("world", range(8))
def test_beam_keeps_the_best_open_steps_of_each_level(bench, world):
    tools = bench.tools(bench.World(world, failing=0.1, cut=0), bench.Judge(world))
    config = SearchConfig(strategy="beam", rollouts=12, candidates=4)
    trajectories, root, _, _ = bench.grow(config, tools, beam)
    levels: dict[int, list] = {}
    for node in walk(root):
        levels.setdefault(node.depth, []).append(node)
    for depth, nodes in levels.items():
        expanded = [node for node in nodes if node.children is not None]
        if depth:
            assert len(expanded) <= 3
            passed = [node.prior for node in nodes if node.end is None and node.children is None]
            if expanded and passed:
                assert min(node.prior for node in expanded) >= max(passed)
    assert len(trajectories) <= 12


@pytest.mark.parametrize("world", range(8))
def test_beam_without_a_reward_model_keeps_the_likeliest_paths(bench, world):
    tools = bench.tools(bench.World(world, failing=0.1, cut=0))
    config = SearchConfig(strategy="beam", rollouts=12, candidates=4)
    trajectories, root, _, context = bench.grow(config, tools, beam)
    assert all(one.logprobs for one in tools.policy.requests)
    levels: dict[int, list] = {}
    for node in walk(root):
        levels.setdefault(node.depth, []).append(node)

    def mean(node):
        path = path_to(node)
        return sum(step.logprob for step in path) / sum(step.tokens for step in path)

    for depth, nodes in levels.items():
        expanded = [node for node in nodes if node.children is not None]
        if depth:
            assert len(expanded) <= 3
            passed = [mean(node) for node in nodes if node.end is None and node.children is None]
            if expanded and passed:
                assert min(mean(node) for node in expanded) >= max(passed)
    assert all(one.score is None for one in trajectories)
    assert all(step.logprob is not None and step.logprob <= 0 for one in trajectories for step in one.steps)
    assert context.budget.scored_steps == 0


@pytest.mark.parametrize("name", ["beam", "dvts"])
def test_a_policy_without_log_probabilities_is_refused_in_one_line(bench, name):
    tools = bench.tools(bench.World(0, likely=False))
    with pytest.raises(UserError, match="ranks steps by their log-probability, and policy 'world' gives none"):
        bench.run(SearchConfig(strategy=name, rollouts=8), tools)
    scored = bench.tools(bench.World(0, likely=False), bench.Judge(0))
    assert bench.run(SearchConfig(strategy=name, rollouts=8), scored).trajectories
    assert not any(one.logprobs for one in scored.policy.requests)


def test_the_answer_of_a_beam_is_voted_without_scores_and_weighted_with_them(bench, group):
    for reward, rule in ((None, "majority"), (bench.Judge(3), "weighted_majority")):
        config = SearchConfig(strategy="beam", rollouts=12)
        result = bench.run(config, bench.tools(bench.World(3, failing=0), reward))
        assert choose_answer(result.trajectories, config, group).rule == rule


@pytest.mark.parametrize("world", range(8))
def test_dvts_grows_one_step_a_level_in_each_subtree(bench, world):
    tools = bench.tools(bench.World(world, failing=0.1, cut=0), bench.Judge(world))
    config = SearchConfig(strategy="dvts", rollouts=12, candidates=4)
    trajectories, root, _, _ = bench.grow(config, tools, dvts)
    first = [child for child in root.children if child.children is not None]
    assert 1 <= len(first) <= 3
    for node in walk(root):
        if node.depth:
            expanded = [child for child in node.children or [] if child.children is not None]
            assert len(expanded) <= 1
            if expanded:
                assert expanded[0].prior == max(child.prior for child in node.children if not child.closed)
    assert 1 <= len(trajectories) <= 12


def test_a_beam_without_survivors_ends_in_failed_trajectories(bench):
    tools = bench.tools(bench.World(0, failing=1.0), bench.Judge(0))
    for name in ("beam", "dvts"):
        result = bench.run(SearchConfig(strategy=name, rollouts=8), tools)
        assert result.trajectories
        assert all(one.answer is None and one.end in ("errors", "length") for one in result.trajectories)


@pytest.mark.parametrize(("tokens", "lengths"), [(10, [1, 1]), (7, [3, 5, 2]), (0, [4]), (5, [0, 0]), (3, [1] * 9)])
def test_shared_tokens_add_up(tokens, lengths):
    got = shares(tokens, [ParsedStep("x" * length, "code") for length in lengths])
    assert sum(got) == tokens
    assert all(share >= 0 for share in got)


def test_seeds_depend_on_every_part_and_fit_any_backend():
    seeds = {derive_seed(0, "q", tree, tag, what) for tree in range(3) for tag in ("0", "0.1") for what in ("a", "b")}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(1, "q") == derive_seed(1, "q") != derive_seed(2, "q")


def test_parts_of_a_search_end_together():
    ended = []

    async def slow():
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("slow")

    async def failing():
        await asyncio.sleep(0)
        raise BackendError("gone")

    async def go():
        with pytest.raises(BackendError):
            await together([slow(), failing(), slow()])
        return len(asyncio.all_tasks())

    assert asyncio.run(go()) == 1
    assert ended == ["slow", "slow"]


def test_scripted_rewards(tmp_path):
    reward = make_scripted()
    values = asyncio.run(reward.score("q", ["a", "b", "a"]))
    assert values[0] == values[2] != values[1]
    assert all(-1 <= noise("q", f"text {i} \ud800") < 1 for i in range(200))
    path = tmp_path / "values.jsonl"
    path.write_text(json.dumps({"question": "q", "reward": {"a": 0.5}}) + "\n")
    reward = make_scripted(str(path))
    assert asyncio.run(reward.score("q", ["a"])) == [0.5]
    with pytest.raises(BackendError, match="no value"):
        asyncio.run(reward.score("q", ["b"]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "line 1"),
        ('{"question": "q"}', "line 1"),
        ('\n{"question": "q", "reward": {"a": 2}}', "line 2"),
        ('{"question": "q", "reward": {"a": "x"}}', "line 1"),
    ],
)
def test_malformed_reward_scripts_are_one_clear_error(tmp_path, content, said):
    path = tmp_path / "values.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        make_scripted(str(path))
    with pytest.raises(UserError, match="cannot read"):
        make_scripted(str(tmp_path / "none"))
