"""Comparing two stored runs: alignment by problem, refusals, and what is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rstar_eval.comparison import compare, print_comparison
from rstar_eval.errors import UserError
from rstar_eval.store import RunStore


def _run(
    path: Path, right: dict[int, str], *, data: str = "d", grader: str = "1", task: str = "t", seed: int = 0
) -> Path:
    """A stored run: `right` maps a problem's index to its trajectories' verdicts, e.g. "+-+"; the first one counts."""
    with RunStore(path) as store:
        store.write_manifest(
            {
                "schema": 1,
                "config": {"seed": seed, "trees": 1},
                "data": {task: {"source": {"sha256": data}}},
                "grader": {"name": "default", "version": grader},
                "sessions": [],
            }
        )
        for index, verdicts in right.items():
            name = f"{index:016x}"
            outcomes = ["correct" if one == "+" else "wrong" for one in verdicts]
            record: dict[str, Any] = {
                "task": task, "problem": name, "index": index, "tree": 0, "trajectories": [], "end": "rollouts",
                "budget": {"completion_tokens": 10 * len(verdicts)}, "timing": {"session": 0, "started": 0, "ended": 1},
            }  # fmt: skip
            store.append_search(record)
            store.append_grade(
                {
                    "task": task,
                    "problem": name,
                    "index": index,
                    "grader": "default",
                    "version": grader,
                    "rule": "r",
                    "answer": verdicts,
                    "outcome": outcomes[0],
                    "choice": {},
                    "trajectories": [{"group": 0, "outcome": one, "rule": "r"} for one in outcomes],
                }
            )
    return path


def test_runs_are_aligned_by_problem(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", {3: "-+", 1: "++", 2: "--", 7: "+-"})
    b = _run(tmp_path / "b", {1: "+-", 2: "++", 3: "+-", 9: "++"}, seed=4)
    found = compare(a, b)
    (one,) = found.tasks
    assert (one.n, one.left_out) == (3, 2)
    assert one.accuracies == pytest.approx((1 / 3, 1.0))
    assert one.difference == pytest.approx(2 / 3)
    assert one.mean_difference == pytest.approx((-0.5 + 1.0 + 0.0) / 3)
    assert one.p == 0.5  # two discordant problems, both on one side
    assert [(item.index, item.solved_by, item.answers) for item in one.discordant] == [
        (2, "b", ("--", "++")),
        (3, "b", ("-+", "+-")),
    ]
    assert one.tokens == (20.0, 20.0)
    assert found.settings == {"seed": (0, 4)}
    assert json.loads(json.dumps(found.machine()))["tasks"][0]["n"] == 3


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", {i: "+-"[i % 2] for i in range(20)})
    (one,) = compare(a, a).tasks
    assert (one.difference, one.interval, one.p, one.discordant) == (0.0, (0.0, 0.0), 1.0, ())
    assert one.detectable > 0.03  # no discordant problem is no proof that there are none


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": "e"}, "task t is other data"),
        ({"grader": "2"}, "graded by default 1, .* by default 2"),
        ({"task": "u"}, "share no graded problem"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path, other: dict[str, str], message: str) -> None:
    a, b = _run(tmp_path / "a", {0: "+"}), _run(tmp_path / "b", {0: "+"}, **other)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        compare(a, b)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        compare(_run(tmp_path / "a", {0: "+"}), tmp_path / "nothing")


def test_what_is_printed_names_figures_and_problems(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", dict.fromkeys(range(30), "-"))
    b = _run(tmp_path / "b", dict.fromkeys(range(30), "+"))
    out = io.StringIO()
    print_comparison(compare(a, b), Console(file=out, width=100))
    text = out.getvalue()
    assert "+1.000" in text
    assert "solved by B alone: 30" in text
    assert "and 10 more (--all)" in text
    assert f"rstar-eval show {b} t/{0:016x}" in text
    out = io.StringIO()
    print_comparison(compare(a, b), Console(file=out, width=100), all_discordant=True)
    assert f"t/{29:016x}" in out.getvalue()
