"""The mini world: generated word problems of five levels, with traps, for runs that need no download.

Start with `relations.py` (what a sentence can say, and how it is misread), then `generate.py`.
"""

from __future__ import annotations

from rstar_eval.tasks.mini.generate import FAMILIES, LEVELS, VERSION, generate, interleave
from rstar_eval.tasks.mini.items import ItemStep, MiniItem, PlanStep, as_problems, plan_code
from rstar_eval.tasks.mini.sets import content_hash, fixed_items, fixed_problems

__all__ = [
    "FAMILIES",
    "LEVELS",
    "VERSION",
    "ItemStep",
    "MiniItem",
    "PlanStep",
    "as_problems",
    "content_hash",
    "fixed_items",
    "fixed_problems",
    "generate",
    "interleave",
    "plan_code",
]
