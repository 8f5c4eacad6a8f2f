"""Problems of the package reasoning-gym (procedural generators by others) as a fixed test set.

The generators are functions of a seed and of the package's release, so a task pins both, and the hash of what they
make.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util

from rstar_eval.errors import UserError, nearest
from rstar_eval.problem import Problem, problem_id
from rstar_eval.serial import canonical
from rstar_eval.tasks.spec import Gym

PACKAGE, MODULE = "reasoning-gym", "reasoning_gym"


def installed() -> bool:
    """Return whether the package is there, in whatever release."""
    return importlib.util.find_spec(MODULE) is not None


def gym_problems(task: str, gym: Gym) -> tuple[tuple[Problem, ...], str]:
    """Return a task's problems, `gym.n` of each data set in turn with its name as the subject, and their hash.

    UserError if the package is missing or of another release than the pinned one, for a data set that it does not
    have, or if the problems' hash is not the pinned one.
    """
    fix = f"pip install {PACKAGE}=={gym.release}"
    if not installed():
        raise UserError(f"task {task} needs the package {PACKAGE}, which is not installed", fix)
    if (release := importlib.metadata.version(PACKAGE)) != gym.release:
        raise UserError(f"task {task} needs {PACKAGE} {gym.release}, installed is {release}", fix)
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    rows: list[tuple[str, str, str]] = []
    for name in gym.datasets:
        if name not in DATASETS:
            raise UserError(f"task {task}: unknown data set {name!r} of {PACKAGE}", nearest(name, DATASETS))
        for entry in reasoning_gym.create_dataset(name, size=gym.n, seed=gym.seed):
            rows.append((str(entry["question"]).strip(), str(entry["answer"]), name))
    digest = hashlib.sha256(canonical(rows).encode()).hexdigest()
    if digest != gym.content_sha256:
        raise UserError(
            f"task {task}: generated content has sha256 {digest}, the task file says {gym.content_sha256}",
            "other problems give other figures: pin them in a task YAML of your own, under another name",
        )
    made = (rows[k * gym.n + i] for i in range(gym.n) for k in range(len(gym.datasets)))
    problems = (
        Problem(id=problem_id(task, index, text), task=task, index=index, text=text, answer=answer, subject=subject)
        for index, (text, answer, subject) in enumerate(made)
    )
    return tuple(problems), digest
