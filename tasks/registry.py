"""The tasks by name. A task YAML in this folder is all that it takes to add one."""

from __future__ import annotations

from pathlib import Path

from rstar_eval.errors import UserError, nearest
from rstar_eval.registry import Registry
from rstar_eval.tasks.spec import TaskSpec, read_spec

TASKS: Registry[Path] = Registry("task")
"""Each task's YAML file, by the task's name."""

for _path in sorted(Path(__file__).parent.glob("*.yaml")):
    TASKS.add(_path.stem, _path)


def task_spec(name: str) -> TaskSpec:
    """Return the task called `name`, or the one that the YAML file at this path describes.

    UserError with the nearest name if there is neither, or if the YAML does not fit the schema.
    """
    if name not in TASKS and name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"no task file {name!r}", f"give an existing YAML, or a task name ({nearest('', TASKS)})")
        spec = read_spec(path, own=True)
        if spec.name in TASKS:
            raise UserError(f"task file {path}: name: {spec.name!r} is a built-in task", "give it another name")
        return spec
    return read_spec(TASKS[name])
