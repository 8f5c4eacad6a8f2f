"""What a run is made of where its user names no policy: the settings that its tasks bring along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rstar_eval.config import NO_REWARD

_WITHOUT_REWARD = frozenset({"greedy", "majority"})
_OF_THE_REWARD = frozenset({"reward", "choose"})


def task_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the tasks named in `layers` (flat settings, later ones winning) bring along: those of
    the embedded checkpoints that were made for them (`defaults` in a task's YAML).

    Nothing if any layer names a policy, or if the tasks do not all bring the same ones. A strategy that takes no
    reward model gets none, nor does any where the reward model given is "none". UserError for an unknown task.
    """
    from rstar_eval.tasks import task_spec

    given = {key: value for layer in layers for key, value in layer.items()}
    names = given.get("tasks", given.get("task"))
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    if not isinstance(names, list) or not names or "policy" in given:
        return {}
    found = [task_spec(str(name)).defaults for name in names]
    if any(one != found[0] for one in found):
        return {}
    bare = given.get("strategy") in _WITHOUT_REWARD or given.get("reward") == NO_REWARD
    return {key: value for key, value in found[0].items() if not (bare and key in _OF_THE_REWARD)}
