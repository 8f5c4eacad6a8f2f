"""From a run's settings to the engine that does its searches."""

from __future__ import annotations

from collections.abc import Callable

from rstar_eval.config import RunConfig
from rstar_eval.engine.base import Engine, MakeOutcomes
from rstar_eval.engine.local import start_local


async def start_engine(
    config: RunConfig, notify: Callable[[str], None], outcomes: MakeOutcomes | None = None
) -> Engine:
    """Return the engine of `config`, ready. `outcomes` is given in training alone. UserError and BackendError if the
    models, the executor or the cluster can't be had."""
    if not config.where.distributed:
        return await start_local(config, notify, outcomes)
    from rstar_eval.engine.ray_engine import start_ray

    return await start_ray(config, notify, outcomes)
