"""The task made of reasoning-gym's problems: pinned, complete, and refused in one line where it can't be the same."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.grading import grade
from rstar_eval.tasks import gym, load_task, task_spec, task_status

NEEDS = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="needs reasoning-gym (pip install 'rstar-eval[gym]')"
)
GYM = task_spec("reasoning_gym").gym
assert GYM is not None


@NEEDS
def test_the_problems_are_the_pinned_ones() -> None:
    loaded = load_task("reasoning_gym")
    assert len(loaded.problems) == 300
    assert len({problem.id for problem in loaded.problems}) == 300
    assert [problem.subject for problem in loaded.problems[:12]] == list(GYM.datasets)
    assert [problem.index for problem in loaded.problems] == list(range(300))
    assert loaded.provenance["sha256"] == GYM.content_sha256
    status = task_status("reasoning_gym")
    assert status is not None
    assert status.kind == "generated"


@NEEDS
def test_every_gold_answer_can_be_graded() -> None:
    for problem in load_task("reasoning_gym").problems:
        assert grade(problem.answer, problem.answer).outcome == "correct", problem
        assert grade(problem.answer, f"{problem.answer}1").outcome == "wrong", problem


@NEEDS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ("gcd", "lmc")}, r"unknown data set 'lmc' of reasoning-gym. did you mean lcm\?"),
        ({"seed": 1}, "generated content has sha256 .* the task file says"),
        ({"release": "0.0.1"}, r"needs reasoning-gym 0.0.1, installed is .*pip install reasoning-gym==0.0.1"),
    ],
)
def test_another_gym_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        gym.gym_problems("t", replace(GYM, **change))  # type: ignore[arg-type]


def test_without_the_package_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "installed", lambda: False)
    assert task_status("reasoning_gym") is None
    with pytest.raises(UserError, match=r"needs the package reasoning-gym, which is not installed. pip install"):
        load_task("reasoning_gym")


def test_another_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "installed", lambda: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(UserError, match=r"needs reasoning-gym 0.1.25, installed is 9.9"):
        load_task("reasoning_gym")


def test_a_task_has_one_source(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("file: a\ngym: {release: '1', datasets: [gcd], n: 1, seed: 1, content_sha256: x}\n")
    with pytest.raises(UserError, match="file and gym of file, generator, gym given"):
        task_spec(str(path))
