"""Semantics `reference`: the rules of the authors' code, accidents included, so that its trees can be reproduced.

What differs from semantics `paper` (DESIGN 4.3 lists the rules):
- The first of equal children is selected; a child's exploration term is 0 while it or its parent is unvisited.
- One rollout may finish no path or several: an answered step is evaluated the moment it is sampled, and the walk goes
  on from a step that does not end.
- Of the candidates that end with <end_of_answer> only the first is kept, and nothing beside it.
- A step that contains the word "boxed" is an answer; printed text that contains "error" is an error.
- A block's code counts as one program: after a step that raised, every later step of the block fails alike.

Only the verdicts are reproduced. Code runs in the executor, never in this process, and no two problems share names.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from rstar_eval.errors import UserError
from rstar_eval.solver.backpropagate import FAILURE, SUCCESS, backpropagate, update
from rstar_eval.solver.context import SearchContext, run_code, sample, score
from rstar_eval.solver.expand import step_room
from rstar_eval.solver.formats.rstar import (
    ANSWER,
    CODE,
    END_ANSWER,
    END_CODE,
    END_OUTPUT,
    END_STEP,
    OUTPUT,
    boxed,
)
from rstar_eval.solver.tree import Node, add_child, prefix_of, to_trajectory, walk
from rstar_eval.solver.types import SearchEnd, Trajectory


@dataclass(slots=True)
class ReferenceTree:
    """A tree under way: its root, for each rollout that found an answer (at test time) the best-scored one's node, and
    the values of a right answer and of a failure."""

    right: float = SUCCESS
    wrong: float = FAILURE
    root: Node = field(default_factory=Node)
    best: dict[int, Node] = field(default_factory=dict)


async def reference(context: SearchContext) -> tuple[list[Trajectory], Node, SearchEnd]:
    """Search by the authors' rules; return the trajectories, the root and why the search ended.

    At test time the trajectories are the best answer of each rollout that found one; in training, where the outcome
    is known, all paths that ended except by depth. UserError for another step format than `rstar`, or if neither a
    reward model nor the outcome is there: the authors have no such search.
    """
    if context.tools.policy.format.name != "rstar":
        raise UserError(
            f"semantics reference is defined for the rstar step format, not {context.tools.policy.format.name!r}",
            "use --set semantics=paper",
        )
    if context.tools.outcome is None and not context.scores:
        raise UserError("semantics reference needs a reward model", "give one with --reward, or set semantics=paper")
    tree = ReferenceTree()
    end = await grow(context, tree, context.config.tree_share * context.config.rollouts_per_trajectory)
    leaves = list(tree.best.items())
    if context.tools.outcome is not None:
        ended = [node for node in walk(tree.root) if node.end in ("answer", "errors")]
        leaves = list(enumerate(ended))
    for rollout, leaf in leaves:
        leaf.walk = rollout
    trajectories = [
        to_trajectory(leaf, leaf.end, tree=context.tree_index, rollout=rollout)
        for rollout, leaf in leaves
        if leaf.end is not None
    ]
    return trajectories, tree.root, end


async def grow(context: SearchContext, tree: ReferenceTree, rollouts: int) -> SearchEnd:
    """Grow `tree` by `rollouts` walks; `closed` on a node stands for the authors' "terminal"."""
    for rollout in range(rollouts):
        node: Node | None = tree.root
        expansions = 0
        while node is not None and not node.closed:
            if node.children is None:
                if expansions == context.config.max_depth:
                    break
                expansions += 1
                room = step_room(context, context.config.candidates)
                if room < 1:
                    return "budget"
                await _expand(context, tree, node, rollout, room)
            following = select_first(node, context.config.c_puct)
            if following is None:
                node.closed = True
            node = following
        if tree.root.closed:
            return "rollouts" if rollout + 1 == rollouts else "exhausted"
    return "rollouts"


def select_first(node: Node, c: float) -> Node | None:
    """Return the first of the open children with the highest value (None: all are closed).

    The value is Q while the child or `node` is unvisited, else UCT.
    """
    best: Node | None = None
    highest = -math.inf
    for child in node.children or ():
        if child.closed:
            continue
        value = child.q
        if node.visits and child.visits:
            value += c * math.sqrt(math.log(node.visits) / child.visits)
        if value > highest:
            best, highest = child, value
    return best


async def _expand(context: SearchContext, tree: ReferenceTree, node: Node, rollout: int, room: int) -> None:
    """Expand `node`, judge the children that end at once, then value the others."""
    config = context.config
    prefix = prefix_of(node)
    completions = await sample(context, prefix, config.candidates, context.seed(node.tag, "sample"), room)
    kept: dict[str, tuple[str, int]] = {}
    samples: Counter[str] = Counter()
    for one in completions:
        kept.setdefault(one.text.strip(), (one.text + (one.stop or ""), one.tokens))
        samples[one.text.strip()] += 1
    steps = [(text, tokens, samples[key]) for key, (text, tokens) in kept.items()]
    answered = [step for step in steps if step[0].endswith(END_ANSWER)]
    node.children = []
    for text, tokens, count in answered[:1] or steps:
        child = await _attach(context, node, text, tokens)
        child.samples = count
        if child.end is not None and child.end != "answer":
            update(child, tree.wrong)
        elif child.end == "answer" and context.tools.outcome is not None:
            right = child.answer is not None and await context.tools.outcome(child.answer)
            backpropagate(child, tree.right if right else tree.wrong)
    if context.scores:
        await _value(context, tree, node, prefix, rollout)
    context.tell(node)
    for child in node.children:
        if child.end == "answer" and context.observer is not None:
            context.tell(child, to_trajectory(child, "answer", tree=context.tree_index, rollout=rollout))


async def _value(context: SearchContext, tree: ReferenceTree, node: Node, prefix: str, rollout: int) -> None:
    """Give each new step one visit with its reward; at test time an answer's reward goes up to the root."""
    training = context.tools.outcome is not None
    children = [child for child in node.children or () if child.end is None or (child.end == "answer" and not training)]
    values = await score(context, [prefix + child.text for child in children])
    for child, value in zip(children, values, strict=True):
        child.prior = value
        if child.end is None:
            update(child, value)
            continue
        backpropagate(child, value)
        best = tree.best.get(rollout)
        if best is None or value > (best.prior or 0.0):
            tree.best[rollout] = child


async def _attach(context: SearchContext, parent: Node, text: str, tokens: int) -> Node:
    """Append a candidate, run its code unless it is an answer, and mark the end of its path."""
    config = context.config
    if "boxed" in text:
        child = add_child(parent, text, "answer", tokens=tokens)
        child.end, child.answer, child.closed = "answer", boxed(text), True
        return child
    closes = END_CODE in text
    child = add_child(parent, text, "final_code" if closes else "code", code=program(text), tokens=tokens)
    output = (await _output(context, parent, child)).rstrip()
    child.output = output
    child.errors = parent.errors + 1 if "error" in output.lower() else 0
    if closes:
        child.text = f"{text}\n{wrapped(output)}"
        output = wrapped(output)
    if child.errors >= config.max_errors:
        child.end = "errors"
        child.text = f"{text if closes else text + END_CODE}\n{wrapped(output)}"
    elif child.depth > config.max_depth:
        child.end = "depth"
    child.closed = child.end is not None
    return child


async def _output(context: SearchContext, parent: Node, child: Node) -> str:
    """Return what the block's program up to `child` prints, or the message of the exception that stops it."""
    if parent.kind == "final_code" or parent.parent is None:
        child.handle = None  # a new block, a new program
    elif parent.error:
        child.status, child.error = parent.status, parent.error
        return child.error
    else:
        child.block_output = parent.block_output
    run = await run_code(context, child.handle, child.code)
    child.status = run.status
    if run.status != "ok":
        child.error = f"{run.error_type or 'Error'}: {run.error or run.status}"
        return child.error
    child.handle = run.node
    child.block_output += run.output
    return child.block_output


def program(text: str) -> str:
    """Return the Python source of a step: its text without the marks."""
    for mark in (CODE, END_STEP, END_CODE, ANSWER, END_ANSWER):
        text = text.replace(mark, "")
    return text


def wrapped(output: str) -> str:
    """Return the output as it is shown to the model."""
    return f"{OUTPUT}{output}{END_OUTPUT}"
