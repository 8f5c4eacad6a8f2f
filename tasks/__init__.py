"""The benchmarks: where each one's problems come from, and the generated mini tasks.

`load_task` is the way in; `spec.py` has the schema of a task's YAML, `load.py` the look-up order of its data.
"""

from __future__ import annotations

if __name__ == "tasks":
    raise ImportError("import this folder as rstar_eval.tasks, after `pip install -e .`")

from rstar_eval.tasks.examples import show_examples
from rstar_eval.tasks.load import LoadedTask, TaskStatus, load_task, task_status
from rstar_eval.tasks.registry import TASKS, task_spec
from rstar_eval.tasks.selection import select
from rstar_eval.tasks.spec import Erratum, TaskSpec
from rstar_eval.tasks.wheel import load_wheel_split

__all__ = [
    "TASKS",
    "Erratum",
    "LoadedTask",
    "TaskSpec",
    "TaskStatus",
    "load_task",
    "load_wheel_split",
    "select",
    "show_examples",
    "task_spec",
    "task_status",
]
