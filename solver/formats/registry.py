"""The step formats by name."""

from __future__ import annotations

from collections.abc import Callable

from rstar_eval.registry import Registry
from rstar_eval.solver.protocols import StepFormat

FORMATS: Registry[Callable[[], StepFormat]] = Registry("step format")


@FORMATS.register("chat")
def _chat() -> StepFormat:
    from rstar_eval.solver.formats.chat import ChatFormat

    return ChatFormat()


@FORMATS.register("rstar")
def _rstar() -> StepFormat:
    from rstar_eval.solver.formats.rstar import RStarFormat

    return RStarFormat()


def get_format(name: str) -> StepFormat:
    """Return the step format called `name`. UserError with the nearest name if there is none."""
    return FORMATS[name]()
