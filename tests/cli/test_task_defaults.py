"""Settings that tasks bring along apply where no policy is named, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar_eval.config import build_config
from rstar_eval.defaults import task_settings
from rstar_eval.errors import UserError
from rstar_eval.tasks import task_spec

OWN = {"policy": "hf:embedded/r4", "reward": "ppm:embedded/ppm", "choose": "share_weighted", "max_step_tokens": 48}


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """Two tasks of a user with the same defaults, one with others, one with none."""
    (tmp_path / "data.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    lines = "".join(f"  {key}: {value}\n" for key, value in OWN.items())
    texts = {"a": f"defaults:\n{lines}", "b": f"defaults:\n{lines}", "c": "defaults:\n  policy: scripted\n", "d": ""}
    for name, text in texts.items():
        (tmp_path / f"own_{name}.yaml").write_text(f"file: data.jsonl\n{text}")
    return {name: str(tmp_path / f"own_{name}.yaml") for name in texts}


@pytest.mark.parametrize(
    ("tasks", "given", "expected"),
    [
        ("a", {}, OWN),
        ("ab", {}, OWN),
        ("ac", {}, {}),
        ("ad", {}, {}),
        ("d", {}, {}),
        ("a", {"policy": "smollm2"}, {}),
        ("a", {"strategy": "beam", "rollouts": 4}, OWN),
        ("a", {"strategy": "greedy"}, {"policy": OWN["policy"], "max_step_tokens": 48}),
        ("a", {"reward": "none"}, {"policy": OWN["policy"], "max_step_tokens": 48}),
        ("a", {"strategy": "majority"}, {"policy": OWN["policy"], "max_step_tokens": 48}),
    ],
)
def test_settings_of_tasks(
    own: dict[str, str], tasks: str, given: dict[str, object], expected: dict[str, object]
) -> None:
    names = [own[letter] for letter in tasks]
    assert task_settings({"tasks": ",".join(names)}, given) == expected
    assert task_settings({"task": names}, given) == expected


def test_what_the_user_gives_wins(own: dict[str, str]) -> None:
    layers = ({"max_step_tokens": 20}, {"tasks": own["a"], "reward": "orm:x"})
    config = build_config(task_settings(*layers), *layers)
    assert (config.policy, config.reward, config.search.max_step_tokens) == (OWN["policy"], "orm:x", 20)


def test_no_reward_model_is_a_choice(own: dict[str, str]) -> None:
    layers = ({"tasks": own["a"]}, {"reward": "none"})
    config = build_config(task_settings(*layers), *layers)
    assert (config.policy, config.reward, config.search.choose) == (OWN["policy"], None, "auto")


def test_no_task_and_an_unknown_one() -> None:
    assert task_settings({}) == {}
    with pytest.raises(UserError, match="unknown task"):
        task_settings({"task": "nonesuch"})


def test_a_benchmark_brings_nothing() -> None:
    assert task_spec("gsm8k").defaults == {}
