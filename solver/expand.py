"""Expansion: candidate steps are sampled, read, run and, with a reward model, valued (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

from rstar_eval.solver.backpropagate import update
from rstar_eval.solver.context import SearchContext, run_code, run_codes, sample, score
from rstar_eval.solver.tree import Node, add_child, prefix_of
from rstar_eval.solver.types import Completion, EndReason, ParsedStep, StepRun


async def expand(context: SearchContext, node: Node, max_tokens: int, candidates: int | None = None) -> None:
    """Give `node` its children: `candidates` steps (None: `config.candidates`) of at most `max_tokens` sampled at once,
    equal ones merged, each one's code run after its ancestors', failures marked and closed, the rest valued by the
    reward model where there is one.

    `node.children` is empty if the policy returned nothing.
    """
    prefix = prefix_of(node)
    n = context.config.candidates if candidates is None else candidates
    completions = await sample(context, prefix, n, context.seed(node.tag, "sample"), max_tokens)
    node.children = []
    steps = distinct(context, prefix, completions)
    runs = iter(await run_codes(context, node.handle, [step.code for _, step, _ in steps if has_code(step)]))
    for completion, step, samples in steps:
        cut = cut_by(completion, max_tokens < context.config.max_step_tokens)
        child = _place(context, node, step, completion.tokens, cut, next(runs) if has_code(step) else None)
        child.samples = samples
        child.logprob, child.logprob_tokens = completion.logprob, completion.logprob_tokens
    await value_children(context, prefix, node.children)
    context.tell(node)


def step_room(context: SearchContext, candidates: int) -> int:
    """Return how many tokens each of `candidates` steps sampled together may take under the token limit."""
    left, most = context.tokens_left(), context.config.max_step_tokens
    return most if left is None or not candidates else min(most, left // candidates)


def cut_by(completion: Completion, limited: bool) -> EndReason | None:
    """Return what cut a completion: its own token limit (`length`), the problem's where that was the tighter one
    (`limited`: `budget`), or nothing (None)."""
    if completion.finish != "length":
        return None
    return "budget" if limited else "length"


def distinct(
    context: SearchContext, prefix: str, completions: Iterable[Completion]
) -> list[tuple[Completion, ParsedStep, int]]:
    """Return the first step of each completion; of those with the same text (blanks around it apart) only the first,
    with their number, unless `config.dedupe` is off."""
    steps: list[tuple[Completion, ParsedStep, int]] = []
    places: dict[str, int] = {}
    for completion in completions:
        parsed = context.tools.policy.format.parse(prefix, completion)
        step = parsed[0] if parsed else ParsedStep(completion.text, "malformed")
        key = step.text.strip()
        if key in places and context.config.dedupe:
            first, same, samples = steps[places[key]]
            steps[places[key]] = (first, same, samples + 1)
        else:
            places[key] = len(steps)
            steps.append((completion, step, 1))
    return steps


async def attach(
    context: SearchContext, parent: Node, step: ParsedStep, tokens: int, cut: EndReason | None = None
) -> Node:
    """Append `step` to `parent`, run its code, and mark the path's end if it ends here.

    A failing step leaves no trace in the executor: what follows it (with `max_errors` above 1) runs on the state before
    it. `cut` is what a step ends with that is unreadable because its completion was cut (None: it was not).
    """
    run = await run_code(context, parent.handle, step.code) if has_code(step) else None
    return _place(context, parent, step, tokens, cut, run)


def has_code(step: ParsedStep) -> bool:
    """Return whether there is anything to run in `step`."""
    return step.kind in ("code", "final_code") and bool(step.code.strip())


def _place(
    context: SearchContext, parent: Node, step: ParsedStep, tokens: int, cut: EndReason | None, run: StepRun | None
) -> Node:
    """Append `step`, whose code gave `run` (None: it has none), and mark the path's end if it ends here."""
    config = context.config
    node = add_child(parent, step.text, step.kind, code=step.code, tokens=tokens)
    if step.kind == "malformed":
        node.end = cut or "malformed"
    elif step.kind == "answer":
        node.end, node.answer = "answer", step.answer
    else:
        node.block_output = parent.block_output
        if run is not None:
            _enter(node, run)
        if step.kind == "final_code":
            shown = node.block_output + (node.error if node.status != "ok" else "")
            node.text = step.text + context.tools.policy.format.render_output(shown)
            node.block_output = ""
        if node.errors >= config.max_errors and node.errors > parent.errors:
            node.end = "errors"
        elif node.depth >= config.max_depth:
            node.end = "depth"
    node.closed = node.end is not None and node.answer is None
    return node


def _enter(node: Node, run: StepRun) -> None:
    node.status, node.output = run.status, run.output
    if run.status == "ok":
        node.handle = run.node
        node.block_output += run.output
    else:
        node.errors += 1
        node.error = ": ".join(part for part in (run.error_type or run.status, run.error) if part)


async def value_children(context: SearchContext, prefix: str, children: Iterable[Node]) -> None:
    """Value every child whose path has not failed: a new step starts with q = PPM(path so far), as its first visit; an
    answer is only judged so that it can be compared, and is visited when a walk ends in it. Nothing without a reward
    model."""
    if context.tools.reward is None:
        return
    alive = [child for child in children if not child.closed]
    values = await score(context, [prefix + child.text for child in alive])
    for child, value in zip(alive, values, strict=True):
        child.prior = value
        if child.end is None:
            update(child, value)
