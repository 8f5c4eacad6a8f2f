"""rstar-eval: measure mathematical reasoning with the rStar-Math solver (arXiv 2501.04519) inside.

The public names are loaded on first use, so that `import rstar_eval` and `rstar-eval --help` stay fast. No module of
this package has the name of a public function: importing it would hide the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstar_eval.comparison import compare
    from rstar_eval.errors import UserError
    from rstar_eval.evaluation import Outcome
    from rstar_eval.grading import Answer, Grade, extract_answer, grade, grade_many, group_answers
    from rstar_eval.library import evaluate, evaluate_async
    from rstar_eval.solving import Solution, solve, solve_async, solve_question
    from rstar_eval.tasks import load_task
    from rstar_eval.trees import StoredTree, read_trees

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Grade",
    "Outcome",
    "Solution",
    "StoredTree",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "evaluate_async",
    "extract_answer",
    "grade",
    "grade_many",
    "group_answers",
    "load_task",
    "read_trees",
    "solve",
    "solve_async",
    "solve_question",
]

_HOMES = {
    "compare": "comparison",
    "load_task": "tasks",
    "Outcome": "evaluation",
    "UserError": "errors",
    **dict.fromkeys(("evaluate", "evaluate_async"), "library"),
    **dict.fromkeys(("Solution", "solve", "solve_async", "solve_question"), "solving"),
    **dict.fromkeys(("StoredTree", "read_trees"), "trees"),
    **dict.fromkeys(("Answer", "Grade", "extract_answer", "grade", "grade_many", "group_answers"), "grading"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rstar_eval' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"rstar_eval.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
