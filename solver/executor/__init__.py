"""The executor: model-written steps run once, in a cage. See docs/sandbox.md."""

from __future__ import annotations

from rstar_eval.solver.executor.executor import StepExecutor, probe_levels, start_executor
from rstar_eval.solver.executor.levels import LEVELS, Layer, Level, LevelReport, Limits

__all__ = ["LEVELS", "Layer", "Level", "LevelReport", "Limits", "StepExecutor", "probe_levels", "start_executor"]
