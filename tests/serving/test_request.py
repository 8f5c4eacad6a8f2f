"""What a request may ask for, and what is refused with which status and field."""

from __future__ import annotations

from typing import Any

import pytest

from rstar_eval.config import build_config
from rstar_eval.serving.request import Bounds, Refused, read_request

CONFIG = build_config({"policy": "scripted", "rollouts": 2})
ASK: list[dict[str, Any]] = [{"role": "user", "content": "What is 1 + 1?"}]


def _read(bounds: Bounds | None = None, **fields: Any) -> Any:
    return read_request({"messages": ASK, **fields}, CONFIG, bounds or Bounds())


def test_defaults_are_the_servers_own() -> None:
    asked = _read()
    assert (asked.question, asked.search, asked.stream) == ("What is 1 + 1?", CONFIG.search, False)


@pytest.mark.parametrize(
    ("model", "strategy", "rollouts"),
    [
        ("rstar", "mcts", 2), ("rstar-mcts-64", "mcts", 64), ("rstar-majority", "majority", 2),
        ("rstar-majority-8", "majority", 8), ("rstar-16", "mcts", 16), ("rstar-greedy", "greedy", 2),
    ],
)  # fmt: skip
def test_the_models_name_says_strategy_and_rollouts(model: str, strategy: str, rollouts: int) -> None:
    asked = _read(model=model)
    assert (asked.search.strategy, asked.search.rollouts) == (strategy, rollouts)


def test_the_extra_field_wins_over_the_name_and_openai_s_fields_are_heard() -> None:
    asked = _read(model="rstar-mcts-64", rstar={"rollouts": 4, "trees": 2}, seed=9, temperature=0.5, max_tokens=700)
    search = asked.search
    assert (search.rollouts, search.trees, search.seed, search.temperature) == (4, 2, 9, 0.5)
    assert search.max_tokens_per_problem == 700


def test_earlier_messages_come_before_the_question_and_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "x?"}]
    messages = [{"role": "system", "content": "Let x be 3."}, {"role": "user", "content": parts}]
    assert read_request({"messages": messages}, CONFIG, Bounds()).question == "Let x be 3.\n\nWhat is x?"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-4"}, 404, "model"),
        ({"model": "rstar-nonsense-4"}, 404, "model"),
        ({"model": "rstar-mcts-0"}, 404, "model"),
        ({"model": 7}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0]"),
        ({"messages": ["x"]}, 400, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0]"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "messages"),
        ({"messages": [{"role": "assistant", "content": "2"}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 101}]}, 400, "messages"),
        ({"n": 2}, 400, "n"),
        ({"rstar": [1]}, 400, "rstar"),
        ({"rstar": {"policy": "hf:x"}}, 400, "rstar.policy"),
        ({"rstar": {"rollouts": "many"}}, 400, "rstar"),
        ({"rstar": {"rollouts": 3, "trees": 2}}, 400, "rstar"),
        ({"rstar": {"strategy": "best-of-n"}}, 400, "rstar"),
        ({"rstar": {"rollouts": 65}}, 400, "rstar"),
        ({"rstar": {"rollouts": 32, "rollouts_per_trajectory": 4}}, 400, "rstar"),
        ({"temperature": -1}, 400, "rstar"),
        ({"temperature": float("nan")}, 400, "rstar"),
        ({"temperature": float("inf")}, 400, "rstar"),
        ({"rstar": {"candidates": 65}}, 400, "rstar.candidates"),
        ({"rstar": {"max_depth": 10**6}}, 400, "rstar.max_depth"),
        ({"rstar": {"max_step_tokens": 10**9}}, 400, "rstar.max_step_tokens"),
        ({"rstar": {"max_block_tokens": 8193}}, 400, "rstar.max_block_tokens"),
        ({"max_tokens": 0}, 400, "rstar"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(fields: dict[str, Any], status: int, param: str) -> None:
    with pytest.raises(Refused) as caught:
        _read(Bounds(characters=100, rollouts=64), **fields)
    assert (caught.value.status, caught.value.param) == (status, param)
    assert caught.value.body()["error"]["message"]


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(Refused, match="not an object"):
        read_request(body, CONFIG, Bounds())


def test_the_servers_token_cap_holds_whatever_is_asked() -> None:
    assert _read(Bounds(tokens=500)).search.max_tokens_per_problem == 500
    assert _read(Bounds(tokens=500), max_tokens=9000).search.max_tokens_per_problem == 500
    assert _read(Bounds(tokens=500), max_tokens=90).search.max_tokens_per_problem == 90


def test_the_servers_own_settings_may_be_above_the_bounds() -> None:
    config = build_config({"policy": "scripted", "candidates": 100})
    assert read_request({"messages": ASK}, config, Bounds()).search.candidates == 100
    assert read_request({"messages": ASK, "rstar": {"candidates": 100}}, config, Bounds()).search.candidates == 100
    with pytest.raises(Refused, match="this server allows 100"):
        read_request({"messages": ASK, "rstar": {"candidates": 101}}, config, Bounds())
