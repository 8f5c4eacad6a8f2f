"""The fixed problem sets of the mini world: the tasks `mini_math`, `mini_aime`, `mini_olympiad`, ..."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.serial import canonical
from rstar_eval.tasks.mini.generate import VERSION, interleave
from rstar_eval.tasks.mini.items import MiniItem, as_problems
from rstar_eval.tasks.spec import Generator

FAMILIES: dict[str, tuple[str, ...]] = {
    "levels": ("1", "2", "3", "4", "5"),
    "aime": ("contest",),
    "olympiad": ("olympiad",),
    "college": ("college",),
    "gaokao": ("gaokao",),
}
"""The levels that a task of a family goes through in turn."""


def content_hash(items: Sequence[MiniItem]) -> str:
    """Return the SHA-256 of the items' texts, answers and levels, in order."""
    rows = [[item.text, item.answer, item.level] for item in items]
    return hashlib.sha256(canonical(rows).encode()).hexdigest()


@cache
def fixed_items(generator: Generator) -> tuple[MiniItem, ...]:
    """Return the items that a task's generator entry names. UserError for an unknown family or version."""
    if generator.family not in FAMILIES:
        raise UserError(f"unknown mini family {generator.family!r}", f"known: {', '.join(FAMILIES)}")
    if generator.version != VERSION:
        raise UserError(f"mini world version {generator.version!r}", f"this release generates {VERSION}")
    return interleave(generator.split, FAMILIES[generator.family], generator.n, generator.seed)


def fixed_problems(task: str, generator: Generator) -> tuple[tuple[Problem, ...], str]:
    """Return the problems of a generated task and their content hash. UserError if the hash is not the pinned one:
    the same version must mean the same problems everywhere."""
    items = fixed_items(generator)
    digest = content_hash(items)
    if digest != generator.content_sha256:
        raise UserError(
            f"task {task}: generated content has sha256 {digest}, the task file says {generator.content_sha256}",
            "a changed generator needs a new version",
        )
    return as_problems(task, items), digest
