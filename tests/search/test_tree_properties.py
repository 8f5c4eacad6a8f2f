"""Properties of trees grown on random spaces of solutions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.mcts import mcts
from rstar_eval.solver.tree import walk

TREES = settings(max_examples=60, deadline=None)
worlds = st.integers(0, 10_000)
configs = st.builds(
    SearchConfig,
    rollouts=st.integers(1, 24),
    candidates=st.integers(1, 5),
    max_depth=st.integers(1, 7),
    c_puct=st.sampled_from([0.0, 0.5, 2.0]),
    first_play=st.sampled_from(["prior", "unvisited_first"]),
    dedupe=st.booleans(),
    max_errors=st.integers(1, 2),
    parallel_rollouts=st.sampled_from([1, 1, 3]),
    seed=st.integers(0, 5),
)


async def odd(answer: str) -> bool:
    return answer in ("1", "3")


def tools_of(bench, kind, world):
    reward = bench.Judge(world) if kind in ("ppm", "ppm-training") else None
    outcome = odd if kind in ("terminal-training", "ppm-training") else None
    return bench.tools(bench.World(world), reward, outcome)


@pytest.mark.parametrize("kind", ["votes", "ppm", "terminal-training", "ppm-training"])
def test_visits_add_up_and_q_is_the_mean_of_what_was_back_propagated(bench, kind, monkeypatch):
    import rstar_eval.solver.mcts as module

    original = module.backpropagate

    @TREES
    @given(world=worlds, config=configs)
    def check(world, config):
        received: dict[int, list[float]] = {}
        walks: list[float] = []

        def spy(leaf, value):
            walks.append(value)
            at = leaf
            while at is not None:
                received.setdefault(id(at), []).append(value)
                at = at.parent
            original(leaf, value)

        monkeypatch.setattr(module, "backpropagate", spy)
        trajectories, root, end, _ = bench.grow(config, tools_of(bench, kind, world), mcts)

        assert root.visits == len(walks) == len(trajectories)
        for node in walk(root):
            got = list(received.get(id(node), []))
            if node.prior is not None and node.end is None:
                got.insert(0, node.prior)  # a new step starts with q = PPM
            assert node.visits == len(got)
            assert node.q == pytest.approx(sum(got) / len(got) if got else 0.0)
            assert node.value == (got[0] if got else None)
            assert node.walks == len(received.get(id(node), []))
            assert node.pending == 0
            children = node.children or []
            ended_here = node.end is not None
            assert node.walks == sum(child.walks for child in children) + (node.walks if ended_here else 0)
        assert (end == "exhausted") == (root.closed and len(trajectories) < config.rollouts)

    check()


@pytest.mark.parametrize("kind", ["votes", "ppm"])
def test_ended_paths_are_never_selected_again(bench, kind, monkeypatch):
    import rstar_eval.solver.mcts as module

    original = module.select

    @TREES
    @given(world=worlds, config=configs)
    def check(world, config):
        def spy(children, *rest, **options):
            chosen = original(children, *rest, **options)
            if chosen is not None:
                assert not chosen.closed
                assert chosen.end is None or (chosen.end == "answer" and chosen.visits == 0)
            return chosen

        monkeypatch.setattr(module, "select", spy)
        _, root, _, _ = bench.grow(config, tools_of(bench, kind, world), mcts)
        for node in walk(root):
            assert node.depth <= config.max_depth
            if node.end is not None:
                assert not node.children
                assert node.visits <= 1
            if node.closed and node.end is None:
                assert node.children
                assert all(child.closed for child in node.children)

    check()


@TREES
@given(world=worlds, config=configs)
def test_every_trajectory_is_another_path_of_the_tree_with_at_most_max_depth_steps(bench, world, config):
    trajectories, root, _, context = bench.grow(config, bench.tools(bench.World(world)), mcts)
    paths = [tuple(step.text for step in one.steps) for one in trajectories]
    if config.dedupe:
        assert len(set(paths)) == len(paths)
    assert all(len(path) <= config.max_depth for path in paths)
    assert all((one.answer is None) or one.end == "answer" for one in trajectories)
    nodes = [node for node in walk(root) if node.parent is not None]
    runs = [node for node in nodes if node.code.strip()]
    assert context.budget.code_runs == len(runs)
    assert context.budget.code_ok == sum(node.status == "ok" for node in runs)
    assert context.budget.completion_tokens == context.tools.policy.tokens
    assert context.budget.policy_calls == sum(node.children is not None for node in walk(root))
    if not config.dedupe:
        assert context.budget.completion_tokens == sum(node.tokens for node in nodes)


@TREES
@given(world=worlds, config=configs)
def test_siblings_differ_unless_dedupe_is_off(bench, world, config):
    _, root, _, _ = bench.grow(config, bench.tools(bench.World(world)), mcts)
    for node in walk(root):
        texts = [child.text.strip() for child in node.children or []]
        if config.dedupe:
            assert len(set(texts)) == len(texts)
        elif texts:
            assert len(texts) == config.candidates


@TREES
@given(world=worlds, config=configs)
def test_unvisited_steps_are_explored_in_the_order_of_their_values(bench, world, config):
    _, root, _, _ = bench.grow(config, bench.tools(bench.World(world), bench.Judge(world)), mcts)
    if config.parallel_rollouts > 1:
        return
    for node in walk(root):
        valued = [child for child in node.children or [] if child.prior is not None]
        reached = [child.prior for child in valued if child.walks]
        missed = [child.prior for child in valued if not child.walks]
        if reached and missed:
            assert min(reached) >= max(missed)


@TREES
@given(world=worlds, rollouts=st.integers(1, 16), share=st.integers(1, 400))
def test_a_token_limit_is_never_exceeded(bench, world, rollouts, share):
    for strategy in ("mcts", "majority", "beam", "dvts"):
        tools = bench.tools(bench.World(world), bench.Judge(world))
        config = SearchConfig(strategy=strategy, rollouts=rollouts, max_tokens_per_problem=share)
        result = bench.run(config, tools)
        assert result.budget.completion_tokens <= share
        assert result.budget.completion_tokens == tools.policy.tokens


def test_values_stay_in_range(bench):
    for world in range(20):
        _, root, _, _ = bench.grow(SearchConfig(rollouts=32), bench.tools(bench.World(world)), mcts)
        assert all(-1 <= node.q <= 1 and math.isfinite(node.q) for node in walk(root))
