"""Reward models: from a spec to a model that scores solution prefixes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rstar_eval.registry import Registry
from rstar_eval.solver.protocols import RewardModel

__all__ = ["REWARDS", "make_reward"]

REWARDS: Registry[Callable[[str], Awaitable[RewardModel]]] = Registry("reward model")
"""Scheme to maker; a maker gets what follows the colon of the spec ("" if nothing does)."""


@REWARDS.register("scripted")
async def _scripted(target: str) -> RewardModel:
    from rstar_eval.solver.reward.scripted import make_scripted

    return make_scripted(target)


async def make_reward(spec: str) -> RewardModel:
    """Return the reward model that `spec` (SCHEME or SCHEME:TARGET) names, ready to score.

    UserError for an unknown scheme (with the nearest one) or a target that is none.
    """
    scheme, _, target = spec.partition(":")
    return await REWARDS[scheme](target)
