"""Where a run's searches are done: the settings of the engine, which change no result."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from rstar_eval.errors import UserError, nearest

EngineName = Literal["local", "ray"]
ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Where the searches of a run are done.

    engine: `local` (this process) or `ray` (worker processes of a Ray cluster). ray_address: of a running cluster, as
    `ray.init` takes it ("auto", "HOST:6379", "ray://HOST:10001"); None: a Ray of our own on this machine, for this run
    alone. workers: how many at most; None: as many as the cluster has room for, also when it grows. gpus_per_worker,
    cpus_per_worker: what each asks of the cluster; a fraction of a GPU is a share of one. executor_workers: processes
    that run the model's code on machines of their own choice, one CPU each (0: each worker has its own executor).
    tries: how often a search is begun whose worker is lost each time, before it is set aside.
    """

    engine: EngineName = "local"
    ray_address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0.0
    cpus_per_worker: float = 1.0
    executor_workers: int = 0
    tries: int = 3

    @property
    def distributed(self) -> bool:
        """Whether workers in other processes do the searches."""
        return self.engine != "local"


LOCAL = EngineConfig()
"""The engine of one process."""


def engine_of(**given: object) -> EngineConfig:
    """Return the settings of an engine from those that are not None. UserError for an unknown one (with the nearest), a
    wrong type or value, or one that has no meaning for the engine."""
    from rstar_eval.serial import from_data

    values = {name: value for name, value in given.items() if value is not None}
    known = [one.name for one in fields(EngineConfig)]
    for name in values:
        if name not in known:
            raise UserError(f"unknown setting {name!r} of the engine", nearest(name, known))
    check_name(values.get("engine", "local"))
    config = from_data(EngineConfig, values, "settings of the engine")
    check_engine(config, "scripted", None)
    return config


def check_name(engine: object) -> None:
    """Raise UserError with the nearest name unless `engine` is one."""
    if engine not in ENGINES:
        raise UserError(f"unknown engine {engine!r}", nearest(str(engine), ENGINES))


def check_engine(config: EngineConfig, policy: str, reward: str | None) -> None:
    """Check the settings of an engine with the models of a run. UserError names the first that is wrong or that has no
    meaning for this engine, its value and the mend."""
    for name in ("workers", "tries"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}", "give at least 1")
    for name in ("gpus_per_worker", "cpus_per_worker", "executor_workers"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise UserError(f"{name} is {getattr(config, name)}", "give 0 or more")
    gpus = config.gpus_per_worker
    if gpus > 1 and gpus != int(gpus):
        raise UserError(f"gpus_per_worker is {gpus}", "give a share of one GPU, or a whole number of them")
    if not config.distributed:
        for name in ("ray_address", "workers", "gpus_per_worker", "cpus_per_worker", "executor_workers", "tries"):
            if getattr(config, name) != getattr(LOCAL, name):
                raise UserError(f"{name} is given, and engine local has no workers", "add --engine ray")
        return
    _check_placement(config, policy, reward)


def _check_placement(config: EngineConfig, policy: str, reward: str | None) -> None:
    """Check that what the specs claim of a worker's GPUs is there: tensor-parallel ranks, and shares of memory.

    vLLM takes `memory` as a share of a whole GPU for each engine, so that engines on one GPU need shares that add up
    to no more than the worker's own share of it."""
    from rstar_eval.solver.backends.spec import parse_policy_spec

    gpus = config.gpus_per_worker
    engines = {"policy": parse_policy_spec(policy)} if policy.startswith("vllm:") else {}
    options = {name: dict(spec.options) for name, spec in engines.items()}
    if reward is not None:
        from rstar_eval.solver.reward.spec import parse_reward_spec

        parsed = parse_reward_spec(reward)
        if parsed.options.get("engine") == "vllm":
            options["reward"] = dict(parsed.options)
    if not gpus:
        return
    for name, given in options.items():
        ranks = int(given.get("tensor_parallel", 1))
        if ranks > max(1.0, gpus):
            raise UserError(
                f"tensor_parallel={ranks} of the {name} with {gpus:g} GPUs a worker", "raise gpus_per_worker"
            )
    shared = {name: given for name, given in options.items() if "device" not in given or gpus <= 1}
    shares = {name: float(given["memory"]) for name, given in shared.items() if "memory" in given}
    unbounded = [name for name in shared if name not in shares and "kv_gib" not in shared[name]]
    if len(shared) == 2 and unbounded:
        missing = ", ".join(sorted(unbounded))
        raise UserError(
            f"policy and reward model share a worker's GPU, and {missing} has no memory share",
            "write for example vllm:PATH?memory=0.55 and ppm:PATH?engine=vllm&memory=0.35, or give each a device",
        )
    room = min(gpus, 1.0)
    if shares and sum(shares.values()) > room + 1e-9:
        raise UserError(
            f"memory shares of {sum(shares.values()):g} in {room:g} of a GPU a worker",
            "lower memory= in the specs, raise gpus_per_worker, or give each model a device",
        )
