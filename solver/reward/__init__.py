"""Reward models: from a spec to a model that scores solution prefixes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rstar_eval.registry import Registry
from rstar_eval.solver.protocols import RewardModel
from rstar_eval.solver.reward.spec import RewardSpec, parse_reward_spec

__all__ = ["REWARDS", "make_reward"]

REWARDS: Registry[Callable[[RewardSpec], Awaitable[RewardModel]]] = Registry("reward model")
"""Scheme to maker; a maker gets the parsed spec."""


@REWARDS.register("scripted")
async def _scripted(spec: RewardSpec) -> RewardModel:
    from rstar_eval.solver.reward.scripted import make_scripted

    return make_scripted(spec.target)


async def _model(spec: RewardSpec) -> RewardModel:
    from rstar_eval.solver.reward.make import make_model

    return await make_model(spec)


for _scheme in ("ppm", "orm", "pqm", "prm", "official"):
    REWARDS.add(_scheme, _model)


async def make_reward(spec: str) -> RewardModel:
    """Return the reward model that `spec` names (reward/spec.py), ready to score.

    UserError for a bad spec (with the nearest name), a checkpoint that is missing or does not load, or a missing
    package (with the command that installs it).
    """
    parsed = parse_reward_spec(spec)
    return await REWARDS[parsed.scheme](parsed)
