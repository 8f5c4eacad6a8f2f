"""Step beam search and diverse verifier tree search: level by level, the best steps are kept.

The best are those of the highest value of the path so far by the reward model; without one, of the highest mean
log-probability a token of the path so far under the policy itself (beam search as in decoding, with steps for tokens).

Both hold N = `rollouts` paths and expand each kept step into M = `candidates`. Beam search (arXiv 2408.03314, section
5.2) keeps the N / M best open steps of a level, whichever path they are on. DVTS (Beeching, Tunstall and Rush, "Scaling
test-time compute with open models", 2024) grows N / M subtrees apart, in each of which the single best step goes on, so
that no early favourite takes all places.
"""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.solver.choose import decided
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.context import SearchContext
from rstar_eval.solver.expand import expand, step_room
from rstar_eval.solver.tree import Node, likelihood, to_trajectory
from rstar_eval.solver.types import SearchEnd, Trajectory


async def beam(context: SearchContext) -> tuple[list[Trajectory], Node, SearchEnd]:
    """Search with one beam of N / M steps; every answer met on the way is a trajectory, up to N."""
    width = max(1, context.config.tree_share // context.config.candidates)
    return await _search(context, groups=1, slots=width, greedy=False)


async def dvts(context: SearchContext) -> tuple[list[Trajectory], Node, SearchEnd]:
    """Search N / M subtrees of one step each; a subtree ends when its best step is an answer, and the answers beside
    that one are trajectories too, up to N over all."""
    width = max(1, context.config.tree_share // context.config.candidates)
    return await _search(context, groups=width, slots=1, greedy=True)


async def _search(
    context: SearchContext, *, groups: int, slots: int, greedy: bool
) -> tuple[list[Trajectory], Node, SearchEnd]:
    """Grow `groups` subtrees with `slots` open steps each, all together level by level.

    The root is expanded once for all of them; its children are dealt out to the groups in turn. A step none of whose
    continuations survives ends as a failed trajectory.
    """
    root, wanted = Node(), context.config.tree_share
    context.logprobs = not context.scores
    fronts: list[list[Node]] = [[root]]
    answers: list[Node] = []
    failures: list[Node] = []
    end: SearchEnd = "rollouts"
    while any(fronts):
        front = [node for group in fronts for node in group]
        candidates = context.config.candidates * (groups * slots if front == [root] else 1)
        room = step_room(context, candidates * len(front))
        if room < 1:
            end = "budget"
            failures += front
            break
        await together(expand(context, node, room, candidates) for node in front)
        failures += [child for node in front if (child := _failed(node)) is not None]
        if front == [root]:
            alive = _alive(root)
            pools = [alive[i::groups] for i in range(groups)]
        else:
            pools = [[child for node in group for child in _alive(node)] for group in fronts]
        found: list[Node] = []
        fronts = []
        for pool in pools:
            ranked = sorted(pool, key=lambda child: (-_value(child), context.seed(child.tag, "tie")))
            ended = [child for child in ranked if child.answer is not None]
            stops = greedy and bool(ranked) and ranked[0].answer is not None
            going = [child for child in ranked if child.answer is None]
            found += [] if greedy and not stops else ended
            fronts.append([] if stops else going[:slots])
        for leaf in sorted(found, key=lambda child: (-_value(child), context.seed(child.tag, "tie"))):
            answers.append(leaf)
            leaf.walk = len(answers) - 1
            if context.observer is not None:
                context.tell(leaf, to_trajectory(leaf, "answer", tree=context.tree_index, rollout=leaf.walk))
        if len(answers) >= wanted:
            break
        if context.may_stop:
            await context.compare([leaf.answer for leaf in answers])
            so_far = _trajectories(context, answers)
            if decided(so_far, wanted - len(answers), context.choosing, scored=context.scores):
                end = "decided"
                break
    else:
        end = "rollouts" if greedy else "exhausted"
    return _trajectories(context, [*answers, *failures][:wanted]), root, end


def _value(node: Node) -> float:
    """Return what a surviving step is ranked by."""
    return likelihood(node) if node.prior is None else node.prior


def _alive(node: Node) -> list[Node]:
    return [child for child in node.children or () if not child.closed]


def _failed(node: Node) -> Node | None:
    """Return where the path ends if no continuation of `node` survived: its first failed child, or `node` itself."""
    if _alive(node):
        return None
    if node.children:
        return node.children[0]
    node.end = "no_candidates"
    return node


def _trajectories(context: SearchContext, leaves: Sequence[Node]) -> list[Trajectory]:
    """Return the paths to `leaves`; a leaf that has not ended ran into the token limit."""
    for index, leaf in enumerate(leaves):
        leaf.walk = index
    return [
        to_trajectory(leaf, leaf.end or "budget", tree=context.tree_index, rollout=index)
        for index, leaf in enumerate(leaves)
    ]
