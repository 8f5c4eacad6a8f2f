"""A Ray cluster: joining one, or starting one on this machine for one run, and how many workers it has room for."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rstar_eval.engine.config import EngineConfig
from rstar_eval.errors import UserError

T = TypeVar("T")

STORE_BYTES = 200_000_000
"""Shared memory of a Ray of our own. Results are small: a search with its packed tree is some tens of kilobytes."""


def connect(config: EngineConfig) -> bool:
    """Join the cluster of `config`, or start a Ray on this machine; return whether it is our own.

    UserError if Ray is not installed, is already in use by this process, or the cluster can't be reached.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("ray is not installed", "pip install 'rstar-eval[ray]'")
    # Nothing is reported to Ray's makers of how it is used, unless the user wants to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        raise UserError("this process uses Ray already", "run one engine at a time")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if config.ray_address is not None:
            ray.init(address=config.ray_address, **quiet)
            return False
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        asked = math.ceil((config.workers or 1) * config.cpus_per_worker + config.executor_workers)
        room = max(cores, asked)  # workers that share a core are the user's wish on a machine of his own
        ray.init(address="local", num_cpus=room, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if config.ray_address is None:
            raise UserError(
                f"Ray does not start on this machine: {first}", "see /tmp/ray/session_latest/logs"
            ) from None
        raise UserError(
            f"no Ray cluster at {config.ray_address!r}: {first}",
            "start one with `ray start --head`; if it asks for a token, set RAY_AUTH_MODE=token here too",
        ) from None
    return True


def disconnect() -> None:
    """Leave the cluster; a Ray of our own ends with all its processes."""
    import ray

    ray.shutdown()


def call(config: EngineConfig, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a machine of the cluster that has room for a worker, and return its result. What it raises is
    raised here."""
    connect(config)
    import ray

    try:
        asked = {"num_cpus": config.cpus_per_worker, "num_gpus": config.gpus_per_worker}
        found: T = ray.get(ray.remote(function).options(**asked, max_retries=2).remote(*arguments))
        return found
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        disconnect()


def demand(config: EngineConfig) -> dict[str, float]:
    """Return what one worker asks of the cluster: Ray's resource names and amounts above 0."""
    asked = {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker}
    return {name: amount for name, amount in asked.items() if amount > 0}


def room_for(config: EngineConfig, nodes: list[Mapping[str, Any]]) -> int:
    """Return how many workers the living nodes of a cluster (`ray.nodes()`) have room for, if nothing else runs there
    but the executor workers. A worker lies on one node."""
    one = demand(config)
    places = 0
    cpus = 0.0
    for node in nodes:
        if not node.get("Alive", node.get("alive")):
            continue
        there = node.get("Resources", {})
        fits = [int((there.get(name, 0.0) + 1e-9) / amount) for name, amount in one.items()]
        places += min(fits) if fits else 1
        cpus += there.get("CPU", 0.0)
    if config.executor_workers and config.cpus_per_worker:
        places = min(places, int((cpus - config.executor_workers + 1e-9) / config.cpus_per_worker))
    return max(0, places)


def living(node: str, nodes: list[Mapping[str, Any]]) -> bool:
    """Return whether a node is among the living ones of `ray.nodes()`."""
    return any(one.get("NodeID") == node and one.get("Alive", one.get("alive")) for one in nodes)
