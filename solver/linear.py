"""Strategies without a tree: whole solutions sampled block by block, so that each takes two or three policy calls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rstar_eval.solver.choose import soonest_decision
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.context import SearchContext, sample, score
from rstar_eval.solver.expand import attach, cut_by
from rstar_eval.solver.tree import Node, prefix_of, to_trajectory
from rstar_eval.solver.types import EndReason, ParsedStep, SearchEnd, Trajectory

Sampled = tuple[list[Trajectory], None, SearchEnd]


async def greedy(context: SearchContext) -> Sampled:
    """Return one solution sampled at temperature 0, whatever `rollouts` is: a second one would be the same."""
    return await _sample_solutions(context, 1, 0.0)


async def sampling(context: SearchContext) -> Sampled:
    """Return `rollouts` independent solutions; with a reward model each answered one is scored."""
    return await _sample_solutions(context, context.config.tree_share, context.config.temperature)


async def _sample_solutions(context: SearchContext, count: int, temperature: float) -> Sampled:
    """Sample `count` solutions in waves. Solution i is the same whatever the waves are.

    Without early stop and token limit there is one wave. With early stop a wave is as small as could settle the vote;
    with a token limit it is as large as the limit allows at the mean length so far.
    """
    config = context.config
    done: list[Trajectory] = []
    while len(done) < count:
        size = count - len(done)
        if context.may_stop:
            await context.compare([one.answer for one in done])
            soonest = soonest_decision(done, size, context.choosing, scored=context.scores)
            if soonest == 0:
                return done, None, "decided"
            size = soonest
        left = context.tokens_left()
        if left is not None:
            spent = context.budget.completion_tokens
            expected = max(1, spent // len(done)) if done else config.max_block_tokens
            size = min(size, max(1, left // expected))
            if left < size:
                return done, None, "budget"
        allowance = None if left is None else left // size
        first = len(done)
        leaves = await together(_solution(context, first + i, temperature, allowance) for i in range(size))
        await _score(context, [leaf for leaf, _ in leaves])
        for i, (leaf, end) in enumerate(leaves):
            done.append(_trajectory(context, first + i, leaf, end))
            if context.scores:
                context.tell(leaf, done[-1])
    return done, None, "rollouts"


def _trajectory(context: SearchContext, index: int, leaf: Node, end: EndReason) -> Trajectory:
    return to_trajectory(leaf, end, tree=context.tree_index, rollout=index, values=False)


async def _solution(
    context: SearchContext, index: int, temperature: float, allowance: int | None
) -> tuple[Node, EndReason]:
    """Return the last step of one solution and why it ended there; it takes at most `allowance` tokens."""
    leaf, end = await _walk(context, index, temperature, allowance)
    if context.observer is not None and not context.scores:  # else it is told when it is scored
        context.tell(leaf, _trajectory(context, index, leaf, end))
    return leaf, end


async def _walk(
    context: SearchContext, index: int, temperature: float, allowance: int | None
) -> tuple[Node, EndReason]:
    config = context.config
    node, spent = Node(), 0
    while node.end is None:
        room = config.max_block_tokens if allowance is None else min(config.max_block_tokens, allowance - spent)
        if room < 1:
            return node, "budget"
        prefix = prefix_of(node)
        seed = context.seed("solution", index, node.depth)
        completions = await sample(context, prefix, 1, seed, room, "block", temperature)
        steps = context.tools.policy.format.parse(prefix, completions[0]) if completions else []
        if not steps:
            return node, "no_candidates"
        completion = completions[0]
        spent += completion.tokens
        for step, tokens in zip(steps, shares(completion.tokens, steps), strict=True):
            node = await attach(context, node, step, tokens, cut_by(completion, room < config.max_block_tokens))
            context.tell(node)
            if node.end is not None:
                break
    return node, node.end


def shares(tokens: int, steps: Sequence[ParsedStep]) -> list[int]:
    """Share a completion's tokens among its steps in proportion to their lengths; the shares add up exactly."""
    total = sum(len(step.text) for step in steps) or 1
    ends, seen = [0], 0
    for step in steps:
        seen += len(step.text)
        ends.append(tokens * seen // total)
    ends[-1] = tokens
    return [after - before for before, after in pairwise(ends)]


async def _score(context: SearchContext, leaves: Sequence[Node]) -> None:
    """Score every answered solution, all in one request."""
    if not context.scores:
        return
    answered = [leaf for leaf in leaves if leaf.answer is not None]
    values = await score(context, [prefix_of(leaf) for leaf in answered])
    for leaf, value in zip(answered, values, strict=True):
        leaf.prior = value
