"""Our tasks inside inspect_ai: `inspect eval rstar_eval/gsm8k --model ...`. Needs the extra `inspect`.

The same pinned data, prompt, extraction and grader as those of the lm-eval tasks; the solver of the project is
`rstar_eval/search` (inspect_ai_solver.py). inspect_ai finds both by the entry point `inspect_ai`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from rstar_eval.grading import extract_answer
from rstar_eval.integrations.inspect_ai_solver import search  # noqa: F401  registered by being imported
from rstar_eval.integrations.lm_eval_tasks import GRADER, INSTRUCTION
from rstar_eval.problem import Problem
from rstar_eval.runner import grade_answers
from rstar_eval.tasks import TASKS, load_task

VERSION = 3
"""The tasks' version: raised with any change of prompt, extraction or grading, as that of the lm-eval tasks."""


@task  # type: ignore[untyped-decorator]
def benchmark(name: str = "mini_math", data_dir: str | None = None, grader: str = GRADER) -> Task:
    """Any of our tasks, or your own YAML: `inspect eval rstar_eval/benchmark -T name=own.yaml`.

    name, data_dir: as `load_task`'s (data_dir also from RSTAR_EVAL_DATA). grader: default, official, math_verify or
    string. The model answers the question once a sample; epochs, limits and sampling are inspect_ai's own options.
    UserError if the task is unknown or its data is not to be had.
    """
    where = data_dir or os.environ.get("RSTAR_EVAL_DATA")
    loaded = load_task(name, data_dir=Path(where) if where else None)
    samples = [
        Sample(
            id=one.id,
            input=one.text + INSTRUCTION,
            target=[one.answer, *one.alternatives],
            metadata={"task": one.task, "index": one.index, "level": one.level, "subject": one.subject},
        )
        for one in loaded.problems
    ]
    return Task(
        dataset=MemoryDataset(samples, name=loaded.spec.name),
        solver=generate(),
        scorer=equivalence(grader),
        name=loaded.spec.name,
        version=VERSION,
        metadata={"data": dict(loaded.provenance)},
    )


@scorer(  # type: ignore[untyped-decorator]
    metrics={
        "correct": [accuracy(), stderr()],
        "no_answer": [mean()],
        "grader_error": [mean()],
    }
)
def equivalence(grader: str = GRADER) -> Scorer:
    """Our extraction and grader. A sample's score has three parts, each 0 or 1: correct, no_answer, grader_error (which
    is never counted as wrong alone); the explanation names the rule that decided. Epochs reduce each part by itself."""

    async def score(state: TaskState, target: Target) -> Score:
        found = extract_answer(state.output.completion)
        if found is None:
            return Score(value=_value("no_answer"), answer=None, explanation="no answer was found")
        answer = found.text
        problem = Problem(
            str(state.sample_id),
            str(state.metadata.get("task", "")),
            int(state.metadata.get("index", 0)),
            state.input_text,
            target[0],
            alternatives=tuple(target[1:]),
        )
        (grade,) = await asyncio.to_thread(grade_answers, problem, [answer], grader)
        return Score(value=_value(grade.outcome), answer=answer, explanation=f"{grade.outcome} by {grade.rule}")

    return score


def _value(outcome: str) -> dict[str, str | int | float | bool | None]:
    return {name: float(outcome == name) for name in ("correct", "no_answer", "grader_error")}


def _named(name: str) -> Callable[..., Task]:
    def make(data_dir: str | None = None, grader: str = GRADER) -> Task:
        return benchmark(name, data_dir, grader)

    make.__name__ = name
    make.__doc__ = f"The task {name} (see `benchmark`)."
    return task(name=name)(make)  # type: ignore[no-any-return]


NAMED = {name: _named(name) for name in TASKS}
"""Every task by its own name: `rstar_eval/math500` and the others."""
