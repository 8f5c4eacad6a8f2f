"""The engine's settings: what is refused, and that they are no part of what a run is."""

from __future__ import annotations

from typing import Any

import pytest

from rstar_eval.config import build_config, identity
from rstar_eval.engine import cluster
from rstar_eval.engine.config import EngineConfig, check_engine, engine_of
from rstar_eval.errors import UserError

PPM = "ppm:judge?engine=vllm"


def test_where_searches_are_done_is_no_part_of_a_run() -> None:
    here = build_config({"tasks": "mini_math"})
    there = build_config(
        {"tasks": "mini_math"},
        {"engine": "ray", "workers": 3, "gpus_per_worker": 0.5, "tries": 5, "executor_workers": 2},
    )
    assert identity(here) == identity(there)
    assert there.where == EngineConfig("ray", None, 3, 0.5, 1.0, 2, 5)
    assert not here.where.distributed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "rai"}, "unknown engine 'rai'. did you mean ray?"),
        ({"workers": 2}, "workers is given, and engine local has no workers. add --engine ray"),
        ({"ray_address": "auto"}, "ray_address is given"),
        ({"engine": "ray", "workers": 0}, "workers is 0. give at least 1"),
        ({"engine": "ray", "tries": 0}, "tries is 0"),
        ({"engine": "ray", "gpus_per_worker": -1.0}, "gpus_per_worker is -1.0"),
        ({"engine": "ray", "gpus_per_worker": float("nan")}, "gpus_per_worker is nan"),
        ({"engine": "ray", "gpus_per_worker": 1.5}, "give a share of one GPU, or a whole number"),
        ({"engine": "ray", "executor_workers": -1}, "executor_workers is -1"),
        ({"engine": "ray", "worker": 1}, "unknown setting 'worker' of the engine. did you mean workers?"),
        ({"engine": "ray", "workers": "many"}, "workers"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_mend(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        engine_of(**given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("gpus", "policy", "reward", "wrong"),
    [
        (1.0, "vllm:p?memory=0.55", PPM + "&memory=0.3", ""),
        (2.0, "vllm:p?device=cuda:0", PPM + "&device=cuda:1", ""),
        (4.0, "vllm:p?tensor_parallel=4", None, ""),
        (1.0, "vllm:p?kv_gib=4", PPM + "&memory=0.3", ""),
        (0.5, "vllm:p?memory=0.3", PPM + "&memory=0.2", ""),
        (0.0, "vllm:p", PPM, ""),
        (1.0, "hf:p", "ppm:judge", ""),
        (1.0, "vllm:p?memory=0.7", PPM + "&memory=0.4", "memory shares of 1.1"),
        (0.5, "vllm:p?memory=0.4", PPM + "&memory=0.2", "in 0.5 of a GPU"),
        (1.0, "vllm:p?memory=0.6", PPM, "reward has no memory share"),
        (2.0, "vllm:p?tensor_parallel=4", None, "tensor_parallel=4 of the policy with 2 GPUs"),
    ],
)
def test_what_the_models_claim_of_a_workers_gpus_must_be_there(
    gpus: float, policy: str, reward: str | None, wrong: str
) -> None:
    config = EngineConfig("ray", gpus_per_worker=gpus)
    if not wrong:
        check_engine(config, policy, reward)
        return
    with pytest.raises(UserError) as error:
        check_engine(config, policy, reward)
    assert wrong in str(error.value)


def _node(name: str, cpus: float, gpus: float = 0.0, *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}


@pytest.mark.parametrize(
    ("config", "nodes", "room"),
    [
        ({}, [_node("a", 2), _node("b", 4)], 6),
        ({}, [_node("a", 2), _node("b", 4, alive=False)], 2),
        ({"cpus_per_worker": 4.0}, [_node("a", 2), _node("b", 2)], 0),  # a worker lies on one machine
        ({"gpus_per_worker": 1.0}, [_node("a", 64, 8), _node("b", 64)], 8),
        ({"gpus_per_worker": 0.5}, [_node("a", 64, 8)], 16),
        ({"gpus_per_worker": 1.0, "cpus_per_worker": 16.0}, [_node("a", 64, 8)], 4),
        ({"executor_workers": 2}, [_node("a", 4)], 2),
        ({"executor_workers": 9}, [_node("a", 4)], 0),
    ],
)
def test_how_many_workers_a_cluster_has_room_for(
    config: dict[str, Any], nodes: list[dict[str, Any]], room: int
) -> None:
    assert cluster.room_for(EngineConfig("ray", **config), nodes) == room


def test_a_machine_is_alive_if_ray_says_so() -> None:
    nodes = [_node("a", 1), _node("b", 1, alive=False)]
    assert [cluster.living(name, nodes) for name in "abc"] == [True, False, False]
