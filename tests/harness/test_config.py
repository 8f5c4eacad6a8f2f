"""Where settings come from, which ones make a run, and what bad ones say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar_eval.config import build_config, identity, load_config_file, load_preset, parse_settings, presets
from rstar_eval.errors import UserError


def test_later_layers_win() -> None:
    config = build_config({"rollouts": 2, "strategy": "greedy"}, {"rollouts": 8}, {"tasks": "a,b"})
    assert (config.search.rollouts, config.search.strategy, config.tasks) == (8, "greedy", ("a", "b"))


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_builds_a_config_and_has_a_description(name: str) -> None:
    build_config(load_preset(name))
    assert presets()[name]


def test_settings_are_read_as_yaml_values() -> None:
    assert parse_settings(["candidates=8", "policy=openai:m@http://h/v1?a=b", "limit=null"]) == {
        "candidates": 8,
        "policy": "openai:m@http://h/v1?a=b",
        "limit": None,
    }


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"rollout": 4}, ["'rollout'", "rollouts"]),
        ({"rollouts": -3}, ["rollouts", "-3", "at least 1"]),
        ({"rollouts": 0}, ["rollouts", "0", "at least 1"]),
        ({"rollouts": True}, ["rollouts", "True"]),
        ({"rollouts": "many"}, ["rollouts", "many"]),
        ({"rollouts": 2.5}, ["rollouts", "2.5"]),
        ({"limit": 0}, ["limit", "0"]),
        ({"temperature": -0.1}, ["temperature", "-0.1"]),
        ({"top_p": 1.5}, ["top_p", "1.5"]),
        ({"rollouts": 4, "trees": 3}, ["rollouts 4", "trees 3", "multiple"]),
        ({"choose": "dice"}, ["choose", "dice"]),
        ({"seed": "x"}, ["seed", "x"]),
    ],
)
def test_a_bad_setting_is_one_line_with_the_value(layer: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        build_config(layer)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean paper"):
        load_preset("papr")


@pytest.mark.parametrize("text", ["rollouts: [1, 2", "- a\n- b\n", "\t:x"])
def test_broken_config_file_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        build_config(load_config_file(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_config_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't read config file"):
        load_config_file(tmp_path / "none.yaml")


def test_a_setting_without_equals_is_refused() -> None:
    with pytest.raises(UserError, match="key=value"):
        parse_settings(["candidates"])


def test_identity_leaves_out_what_does_not_change_a_problems_result() -> None:
    first = build_config({"tasks": "a", "limit": 3, "concurrency": 1})
    second = build_config({"tasks": "a", "limit": 9, "concurrency": 4, "ids": "0,1", "keep_trees": True})
    assert identity(first) == identity(second)
    assert identity(first) != identity(build_config({"tasks": "a", "seed": 1}))
