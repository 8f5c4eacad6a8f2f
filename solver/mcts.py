"""Monte Carlo tree search over steps, semantics `paper` (section 3.2): select, expand, evaluate, back-propagate.

A walk goes from the root to the end of a path, expanding one node a level, and yields one trajectory. A finished or
failed path is closed and never walked again; when the root is closed the tree is exhausted.
"""

from __future__ import annotations

from dataclasses import dataclass

from rstar_eval.solver.backpropagate import FAILURE, SUCCESS, agreement, backpropagate
from rstar_eval.solver.choose import classes_of, decided
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.context import SearchContext
from rstar_eval.solver.expand import expand, step_room
from rstar_eval.solver.select import select
from rstar_eval.solver.tree import Node, close_upwards, to_trajectory
from rstar_eval.solver.types import EndReason, SearchEnd, Trajectory


@dataclass(slots=True)
class Growth:
    """A tree under way: its root, the ends of the finished walks in order, and why it stopped."""

    root: Node
    leaves: list[tuple[Node, EndReason]]
    end: SearchEnd = "rollouts"


async def mcts(context: SearchContext) -> tuple[list[Trajectory], Node, SearchEnd]:
    """Grow one tree and return its trajectories (in the order of their walks), its root and why it ended."""
    config = context.config
    walks = config.tree_share * config.rollouts_per_trajectory
    growth = Growth(Node(), [])
    while len(growth.leaves) < walks:
        if growth.root.closed:
            growth.end = "exhausted"
            break
        if _decided(context, growth, walks - len(growth.leaves)):
            growth.end = "decided"
            break
        await _wave(context, growth, min(config.parallel_rollouts, walks - len(growth.leaves)))
        if growth.end == "budget":
            break
    trajectories = [
        to_trajectory(leaf, end, tree=context.tree_index, rollout=index)
        for index, (leaf, end) in enumerate(growth.leaves)
    ]
    return _best(context, trajectories), growth.root, growth.end


async def _wave(context: SearchContext, growth: Growth, size: int) -> None:
    """Walk `size` times from the root, level by level: each level selects in order, then expands all at once."""
    walkers = [growth.root] * size
    growth.root.pending += size
    while walkers:
        fresh = list(dict.fromkeys(node for node in walkers if node.children is None))
        room = step_room(context, len(fresh) * context.config.candidates)
        if fresh and room < 1:
            growth.end = "budget"
            for node in walkers:
                node.walk = len(growth.leaves)
                growth.leaves.append((node, "budget"))
                _release(node)
            return
        if fresh:
            await together(expand(context, node, room) for node in fresh)
        onward: list[Node] = []
        for node in walkers:
            child = _choose_child(context, node)
            if child is None:
                _release(node)  # walks beside this one took the last open path
            elif child.end is not None:
                await _finish(context, growth, child)
                _release(node)
            else:
                child.pending += 1
                onward.append(child)
        walkers = onward


def _choose_child(context: SearchContext, node: Node) -> Node | None:
    """Return the child that the walk goes to; a failed one only where an expansion gave nothing else."""
    config = context.config
    children = node.children or []
    if not children and not node.closed:
        node.end = "no_candidates"
        return node
    chosen = select(
        children,
        node.visits + node.pending - 1,
        c=config.c_puct,
        first_play=config.first_play,
        virtual_loss=config.virtual_loss,
        tie=lambda child: context.seed(child.tag, "tie"),
    )
    if chosen is None and not node.closed:
        return children[0]
    return chosen


async def _finish(context: SearchContext, growth: Growth, leaf: Node) -> None:
    """Evaluate a finished path, back-propagate its value and close it."""
    end = leaf.end
    assert end is not None, "a walk finishes only at the end of a path"
    await context.compare([*(one.answer for one, _ in growth.leaves), leaf.answer])
    value = await _evaluate(context, growth, leaf)
    leaf.walk = len(growth.leaves)
    growth.leaves.append((leaf, end))
    backpropagate(leaf, value)
    close_upwards(leaf)
    if context.observer is not None:
        context.tell(leaf, to_trajectory(leaf, end, tree=context.tree_index, rollout=leaf.walk))


async def _evaluate(context: SearchContext, growth: Growth, leaf: Node) -> float:
    """Return a finished path's value.

    In training +1 for a right answer and -1 for a wrong one (terminal-guided annotation); at test time the reward
    model's value, or without one the agreement with the tree's earlier answers. -1 for a path without an answer.
    """
    if leaf.answer is None:
        return FAILURE
    if context.tools.outcome is not None:
        return SUCCESS if await context.tools.outcome(leaf.answer) else FAILURE
    if leaf.prior is not None:
        return leaf.prior
    earlier = [one.answer for one, _ in growth.leaves if one.answer is not None]
    classes = classes_of([*earlier, leaf.answer], context.tools.group)
    return agreement(classes[:-1].count(classes[-1]), len(earlier))


def _release(node: Node) -> None:
    """Take a finished walk off the pending counts of its path."""
    at: Node | None = node
    while at is not None:
        at.pending -= 1
        at = at.parent


def _decided(context: SearchContext, growth: Growth, remaining: int) -> bool:
    """Return whether the search may end early: one walk a trajectory, and a vote that nothing can change."""
    if not context.may_stop or context.config.rollouts_per_trajectory > 1:
        return False
    so_far = [Trajectory((), end, leaf.answer, leaf.prior) for leaf, end in growth.leaves]
    return decided(so_far, remaining, context.choosing, scored=context.scores)


def _best(context: SearchContext, trajectories: list[Trajectory]) -> list[Trajectory]:
    """Return the tree's share: the trajectories with the highest score, or, without a reward model, those of the
    answers that occur most; earlier ones first among equals; in the order of their walks."""
    share = context.config.tree_share
    if len(trajectories) <= share:
        return trajectories
    answers = [one.answer for one in trajectories if one.answer is not None]
    classes = iter(classes_of(answers, context.tools.group))
    of = [next(classes) if one.answer is not None else None for one in trajectories]

    def merit(index: int) -> tuple[bool, float, int]:
        one, group = trajectories[index], of[index]
        if group is None:
            return (False, 0.0, -index)
        return (True, one.score if one.score is not None else float(of.count(group)), -index)

    kept = sorted(sorted(range(len(trajectories)), key=merit, reverse=True)[:share])
    return [trajectories[index] for index in kept]
