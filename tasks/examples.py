"""Example problems of a task as text, for `rstar-eval tasks show`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.tasks.load import load_task
from rstar_eval.tasks.mini import MiniItem, fixed_items, plan_code

WIDTH = 100


def show_examples(
    name: str,
    level: int | str | None = None,
    n: int = 3,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    download: bool = True,
) -> str:
    """Return the first `n` problems of a task (of one level, if given) as text: question, answer, known errata, and
    for a mini task the reference plan and what the trap makes of it.

    UserError as `load_task`'s, for an unknown level, for a task without levels, and for n below 1.
    """
    if n < 1:
        raise UserError(f"the number of examples is {n}", "allowed: 1 or more")
    task = load_task(name, data_dir=data_dir, cache_dir=cache_dir, download=download)
    problems = list(task.problems)
    if level is not None:
        levels = sorted({problem.level for problem in problems if problem.level})
        if str(level) not in levels:
            known = f"known: {', '.join(levels)}" if levels else "its source gives no levels; leave the level out"
            raise UserError(f"task {task.spec.name} has no level {str(level)!r}", known)
        problems = [problem for problem in problems if problem.level == str(level)]
    blocks = []
    for problem in problems[:n]:
        lines = [_head(problem), _wrap(problem.text), f"answer: {' or '.join((problem.answer, *problem.alternatives))}"]
        lines += [f"erratum: {erratum.what}" for erratum in task.spec.errata_of(problem.index)]
        if task.spec.generator is not None:
            lines += _plans(fixed_items(task.spec.generator)[problem.index])
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _head(problem: Problem) -> str:
    labels = [f"level {problem.level}" if problem.level else "", problem.subject or ""]
    return ", ".join([f"[{problem.index}] {problem.id}", *filter(None, labels)])


def _wrap(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH) for line in text.splitlines())


def _plans(item: MiniItem) -> list[str]:
    lines = ["plan:", textwrap.indent(plan_code(item.plan), "    ")]
    if item.wrong_plan is not None:
        traps = ", ".join(f"{step.relation} (tier {step.tier})" for step in item.steps if step.wrong)
        lines += [f"plan that falls for {traps}, to {item.wrong_answer}:"]
        lines += [textwrap.indent(plan_code(item.wrong_plan), "    ")]
    return lines
