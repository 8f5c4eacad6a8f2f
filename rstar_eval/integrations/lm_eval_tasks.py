"""The functions behind the lm-eval tasks in tasks/lm_eval/: data, prompt, scoring. Needs the extra `lm-eval`.

The YAMLs name these functions by their import path, so that they work from any folder and without registration:
`lm_eval run --include_path $(rstar-eval tasks --lm-eval-path) --tasks rstar_gsm8k ...`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rstar_eval.grading import extract_answer, group_answers
from rstar_eval.problem import Problem
from rstar_eval.runner import grade_answers
from rstar_eval.stats import curve_points, maj_at_k, pass_at_k
from rstar_eval.tasks import load_task

INSTRUCTION = "\n\nReason step by step, and put your final answer within \\boxed{}."
"""What follows the question in the prompt. Part of the tasks' version: a change of it is a new version."""
GRADER = "default"


def task_folder() -> Path:
    """Return the folder of the lm-eval task YAMLs, as installed."""
    import rstar_eval.tasks

    return Path(rstar_eval.tasks.__file__).parent / "lm_eval"


def dataset(rstar_task: str, data_dir: str | None = None, **_: Any) -> dict[str, Any]:
    """Return the problems of a task as lm-eval wants them: {"test": datasets.Dataset}.

    Each row has id, index, question, answer, alternatives, level, subject. `data_dir` comes from --metadata or
    RSTAR_EVAL_DATA; lm-eval passes all of --model_args too, which are not for us. UserError as `load_task`'s.
    """
    from datasets import Dataset

    where = data_dir or os.environ.get("RSTAR_EVAL_DATA")
    problems = load_task(rstar_task, data_dir=Path(where) if where else None).problems
    rows = [
        {
            "id": one.id,
            "task": one.task,
            "index": one.index,
            "question": one.text,
            "answer": one.answer,
            "alternatives": list(one.alternatives),
            "level": one.level or "",
            "subject": one.subject or "",
        }
        for one in problems
    ]
    return {"test": Dataset.from_list(rows)}


def prompt(doc: Mapping[str, Any]) -> str:
    """Return the prompt of a problem: the question and the instruction."""
    return f"{doc['question']}{INSTRUCTION}"


def question_of(text: str) -> str:
    """Return the question in a prompt: what stands before our instruction, or the whole prompt of other tasks."""
    return text.rstrip().removesuffix(INSTRUCTION.rstrip()).strip()


def keep_all(responses: Iterable[Sequence[str]], docs: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The pass-through filter: keep every repeat of every problem, so that all of them are scored."""
    return [list(one) for one in responses]


def score(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """Return a problem's metrics from all its responses, graded by our own grader.

    acc: whether the first response is right. avg@n: the share of right ones. maj@k, pass@k for k = 1, 2, 4, ..., n:
    the chance that a majority vote of k of them, or any of k, is right (the unbiased estimates of our own reports).
    no_answer, grader_error: shares of the responses.
    """
    responses = list(results[0]) if results and isinstance(results[0], list | tuple) else list(results)
    answers = [None if (found := extract_answer(str(text))) is None else found.text for text in responses]
    problem = Problem(
        doc["id"], doc["task"], doc["index"], doc["question"], doc["answer"], alternatives=tuple(doc["alternatives"])
    )
    given = [one for one in answers if one is not None]
    distinct = list(dict.fromkeys(given))
    outcome = {text: one.outcome for text, one in zip(distinct, grade_answers(problem, distinct, GRADER), strict=True)}
    outcomes = ["no_answer" if one is None else outcome[one] for one in answers]
    right = [one == "correct" for one in outcomes]
    groups = iter(group_answers(given))
    classes = [None if one is None else next(groups) for one in answers]
    n = len(right)
    points = curve_points(n)
    metrics = {
        "acc": float(right[0]),
        f"avg@{n}": sum(right) / n,
        "no_answer": outcomes.count("no_answer") / n,
        "grader_error": outcomes.count("grader_error") / n,
    }
    for k, voted in zip(points, maj_at_k(classes, right, points), strict=True):
        metrics[f"maj@{k}"] = voted
        metrics[f"pass@{k}"] = pass_at_k(n, sum(right), k)
    return metrics


def metric_list(repeats: int) -> list[dict[str, Any]]:
    """Return the metric list of a task with so many repeats, for its YAML."""
    up = ["acc", f"avg@{repeats}", *(f"{kind}@{k}" for k in curve_points(repeats) for kind in ("maj", "pass"))]
    names = [*((name, True) for name in up), ("no_answer", False), ("grader_error", False)]
    return [{"metric": name, "aggregation": "mean", "higher_is_better": better} for name, better in names]


@cache
def task_names() -> tuple[str, ...]:
    """Return the names of our lm-eval tasks."""
    return tuple(sorted(path.stem for path in task_folder().glob("rstar_*.yaml") if not path.stem.startswith("group_")))
