"""The commands data, train and plan, as a user calls them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rstar_eval.cli import main
from rstar_eval.training.runs import trees_of_runs

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def call() -> Call:
    """Run the command line in this process; returns its exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        import contextlib
        import io

        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["rstar-eval", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="module")
def runs(call: Call, tmp_path_factory: pytest.TempPathFactory, nothing_runs_here: None) -> Path:
    """A folder with two runs of a scripted policy: `mcts` with its trees, `majority` without any."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["--task", "mini_math", "--policy", "scripted", "--limit", "8", "--rollouts", "8"]
    for strategy, more in (("mcts", ["--keep-trees"]), ("majority", [])):
        code, _, err = call(*common, "--strategy", strategy, *more, "--output", str(folder / strategy))
        assert code == 0, err
    return folder


def test_data_sets_of_a_run(call: Call, runs: Path, tmp_path: Path) -> None:
    arguments = ["data", "build", str(runs / "mcts"), "--round", "2"]
    code, out, err = call(*arguments, "--output", str(tmp_path / "a"))
    assert code == 0, err
    assert "8 trees of 8 problems" in out
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "a" / "outcomes.jsonl").read_text().splitlines()]
    assert manifest["data"]["outcomes"]["rows"] == len(rows) > 0
    assert {row["source"]["round"] for row in rows} == {2}
    assert {row["source"]["run"] for row in rows} == {"mcts"}
    assert all(row["source"]["level"] for row in rows)
    call(*arguments, "--output", str(tmp_path / "b"))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    code, out, _ = call("data", "stats", str(tmp_path / "a" / "values.jsonl"))
    assert json.loads(out)["rows"] == manifest["data"]["values"]["rows"]


def test_labels_agree_with_the_grades_of_the_run(runs: Path) -> None:
    from rstar_eval.records import read_log
    from rstar_eval.solver.tree import path_to, walk

    log = read_log(runs / "mcts")
    verdicts: dict[tuple[str, str], str] = {}
    for grade in log.grades.values():
        search = log.searches[grade.task, grade.problem, 0]
        for trajectory, graded in zip(search.trajectories, grade.trajectories, strict=True):
            verdicts[grade.problem, "".join(step.text for step in trajectory.steps)] = graded.outcome
    compared = 0
    for tree in trees_of_runs([runs / "mcts"]):
        for node in walk(tree.root):
            text = "".join(step.text for step in path_to(node))
            if node.end == "answer" and (tree.source.problem, text) in verdicts:
                assert tree.is_right(node) == (verdicts[tree.source.problem, text] == "correct")
                compared += 1
    assert compared > 8


def test_samples_without_trees_make_data_too(call: Call, runs: Path, tmp_path: Path) -> None:
    code, out, err = call("data", "build", str(runs / "majority"), str(runs / "mcts"), "--output", str(tmp_path / "a"))
    assert code == 0, err
    assert "16 trees of 8 problems" in out


def test_a_run_that_kept_no_trees_says_so(call: Call, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "mcts", tmp_path / "r")
    (tmp_path / "r" / "trees.jsonl.zst").unlink()
    code, _, err = call("data", "build", str(tmp_path / "r"), "--output", str(tmp_path / "d"))
    assert code == 2
    assert "--keep-trees" in err
    assert not (tmp_path / "d").exists()


def test_contamination_is_found_and_shown(call: Call, tmp_path: Path) -> None:
    from rstar_eval.tasks import load_task

    problems = load_task("mini_math").problems
    rows = [{"query": problems[5].text, "response": "r"}, {"query": "Something else entirely.", "response": "r"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    code, out, _ = call("data", "check", str(tmp_path / "a.json"), "--against", "mini_math,mini_aime", "--show", "1")
    assert code == 1
    assert "1 the same" in out
    assert f"mini_math/5 ({problems[5].id}): the same in" in out
    code, out, _ = call("data", "check", str(tmp_path / "a.json"), "--against", "mini_math", "--json")
    assert json.loads(out)["matches"][0]["exact"] is True
    (tmp_path / "b.json").write_text(json.dumps(rows[1:]))
    assert call("data", "check", str(tmp_path / "b.json"), "--against", "mini_math")[0] == 0


def test_two_steps_on_the_authors_examples(call: Call, base: Path, shared_data: Path, tmp_path: Path) -> None:
    for kind, name in (("sft", "sft_data_examples.json"), ("ppm", "rm_data_examples.json")):
        code, out, err = call(
            "train", kind, "--data", str(shared_data / "training" / name), "--base", str(base), "--set", "max_steps=2",
            "--output", str(tmp_path / kind), "--json",
        )  # fmt: skip
        assert code == 0, err
        found = json.loads(out.splitlines()[-1])
        assert (found["steps"], found["too_long"]) == (2, 0)
        assert (tmp_path / kind / "model.safetensors").exists()


def test_plans_are_printed(call: Call) -> None:
    code, out, _ = call("plan", "--preset", "paper")
    assert code == 0
    assert "Checked against the paper" in out
    code, out, _ = call("plan", "--preset", "mini", "--rounds", "2", "--json")
    assert [one["round"] for one in json.loads(out)["rounds"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "rlhf", "--data", "x", "--base", "b", "--output", "o"], "rlhf"),
        (["train", "sft", "--data", "missing.jsonl", "--base", "b", "--output", "o"], "missing.jsonl"),
        (["train", "sft", "--data", "x", "--base", "b", "--output", "o", "--set", "lr=1"], "unknown training setting"),
        (["data", "build", "nowhere", "--output", "o"], "no run folder"),
        (["data", "build", "nowhere", "--output", "o", "--set", "pair_rule=best"], "pair_rule"),
        (["data", "convert", "missing.json", "b.jsonl"], "missing.json"),
        (["data", "check", "missing.json", "--against", ","], "missing.json"),
        (["plan", "--preset", "maxi"], "maxi"),
    ],
)
def test_bad_input_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert word in err
    assert not list(tmp_path.iterdir()), "nothing was written"
