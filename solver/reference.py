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
    CODE,
    END_ANSWER,
    END_CODE,
    END_OUTPUT,
    OUTPUT,
)
from rstar_eval.solver.reference_text import boxed_answer, code_lines, program
from rstar_eval.solver.tree import Node, add_child, prefix_of, to_trajectory, walk
from rstar_eval.solver.types import Completion, SearchEnd, Trajectory

_UNPARSED = frozenset({"SyntaxError", "IndentationError", "TabError"})


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
                if not node.children:  # the policy gave nothing: the authors ask again and again
                    node.children = None
                    break
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
    kept: dict[str, Completion] = {}
    samples: Counter[str] = Counter()
    for one in completions:
        kept.setdefault(one.text, one)
        samples[one.text] += 1
    answered = [one for one in kept.values() if one.stop == END_ANSWER]
    node.children = []
    for one in answered[:1] or kept.values():
        child = await _attach(context, node, one.text + (one.stop or ""), one.tokens)
        child.samples = samples[one.text]
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
    closes = END_CODE in text
    if "boxed" in text:
        answer = boxed_answer(text)
        child = add_child(parent, text, "answer" if answer else "final_code" if closes else "code", tokens=tokens)
        if answer:
            child.end, child.answer = "answer", answer
        else:  # a step without code and without an error
            child.errors, child.error, child.block_output = 0, parent.error, parent.block_output
            child.end = "depth" if child.depth > config.max_depth else None
        child.closed = child.end is not None
        return child
    child = add_child(parent, text, "final_code" if closes else "code", tokens=tokens)
    output = (await _output(context, child)).strip()
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


async def _output(context: SearchContext, child: Node) -> str:
    """Return what the block's program up to `child` prints, or the message of the exception that stops it.

    A step runs on the state of the one before it. The whole block runs from its beginning where that is not the same
    as running its program: after a failed step, where the step's own text does not parse (a statement may be spread
    over steps, and the message counts the program's lines), and where a `<code>` mark comes late.
    """
    assert child.parent is not None, "the root has no code"
    block = _block(child)
    marked = any(CODE in step.text for step in block[:-1])
    child.code = code_lines(child.text, begun=True) if marked else program(child.text)
    late = CODE in child.text and not marked
    run = None
    if len(block) > 1 and not child.parent.error and not late:
        run = await run_code(context, child.parent.handle, child.code)
        printed = child.parent.block_output + run.output
    if run is None or run.error_type in _UNPARSED:
        run = await run_code(context, None, program("".join(step.text for step in block)))
        printed = run.output
    child.status = run.status
    if run.status != "ok":
        child.error = f"{run.error_type or 'Error'}: {run.error or run.status}"
        return child.error
    child.handle, child.block_output = run.node, printed
    return printed


def _block(child: Node) -> list[Node]:
    """Return the steps of the code block that `child` is in, up to it: those after the last that closed a block."""
    steps = [child]
    at = child.parent
    while at is not None and at.parent is not None and END_CODE not in at.text and END_OUTPUT not in at.text:
        if "boxed" not in at.text:  # such a step has no code
            steps.append(at)
        at = at.parent
    return steps[::-1]


def wrapped(output: str) -> str:
    """Return the output as it is shown to the model."""
    return f"{OUTPUT}{output}{END_OUTPUT}"
