"""The commands on good input."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from rstar_eval.cli import main
from rstar_eval.trees import read_trees

Done = subprocess.CompletedProcess[str]


def _run(*arguments: str, cwd: Path) -> Done:
    """Run the command line in this process, in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), chdir(cwd):
        patch.setattr(sys, "argv", ["rstar-eval", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def _run_as_a_user(*arguments: str, cwd: Path) -> Done:
    """Run it as a process of its own."""
    command = [sys.executable, "-m", "rstar_eval.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("run")
    done = _run_as_a_user(
        "--task", "mini_math", "--policy", "scripted", "--limit", "6", "--rollouts", "4", "--output", "out",
        "--keep-trees", "--json", cwd=folder,
    )  # fmt: skip
    return folder, done


def test_the_last_line_of_json_mode_is_one_object(finished: tuple[Path, Done]) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    (only,) = done.stdout.splitlines()
    result = json.loads(only)
    assert result["run"] == "out"
    (figures,) = result["tasks"].values()
    assert set(figures) == {"n", "accuracy", "interval", "no_answer", "grader_error", "tokens", "seconds"}
    assert figures["n"] == 6
    low, high = figures["interval"]
    assert 0 <= low <= figures["accuracy"] <= high <= 1
    assert figures["tokens"] > 0


def test_a_run_leaves_manifest_log_and_reports(finished: tuple[Path, Done]) -> None:
    folder, _ = finished
    names = {path.name for path in (folder / "out").iterdir()}
    assert {
        "manifest.json",
        "trajectories.jsonl",
        "grades.jsonl",
        "summary.json",
        "summary.md",
        "trees.jsonl.zst",
    } <= names
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["data"]["mini_math"]["source"]["sha256"]
    assert manifest["sessions"][0]["isolation"]
    assert manifest["sessions"][0]["ended"] == "finished"
    assert manifest["policy"]
    text = (folder / "out" / "summary.md").read_text()
    assert "pass@k" in text
    assert "95 % interval" in text
    assert len(list(read_trees(folder / "out"))) == 6


def test_gold_answers_are_not_in_the_search_log(finished: tuple[Path, Done]) -> None:
    from rstar_eval.tasks import load_task

    folder, _ = finished
    gold = [problem.answer for problem in load_task("mini_math").problems[:6]]
    for raw, answer in zip((folder / "out" / "trajectories.jsonl").read_text().splitlines(), gold, strict=True):
        record = json.loads(raw)
        assert "gold" not in raw
        assert set(record) == {
            "schema",
            "task",
            "problem",
            "index",
            "tree",
            "trajectories",
            "budget",
            "end",
            "timing",
            "crc",
        }, answer


def test_the_same_command_again_does_nothing_twice(finished: tuple[Path, Done], nothing_runs: None) -> None:
    folder, first = finished
    before = (folder / "out" / "trajectories.jsonl").read_bytes()
    again = _run(
        "--task", "mini_math", "--policy", "scripted", "--limit", "6", "--rollouts", "4", "--output", "out",
        "--keep-trees", "--json", cwd=folder,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (folder / "out" / "trajectories.jsonl").read_bytes() == before
    assert again.stdout == first.stdout


def test_show_prints_summary_and_trajectories(finished: tuple[Path, Done]) -> None:
    folder, _ = finished
    run = _run("show", "out", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "mini_math" in run.stdout
    problem = _run("show", "out", "2", cwd=folder)
    assert problem.returncode == 0, problem.stderr
    assert "trajectory 0" in problem.stdout
    assert "output:" in problem.stdout
    assert "reference answer:" in problem.stdout


def test_regrade_works_without_a_model_and_can_be_undone(
    finished: tuple[Path, Done],
) -> None:
    folder, first = finished
    run = _run("regrade", "out", "--grader", "string", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "problems changed" in run.stdout
    back = _run("regrade", "out", "--grader", "default", cwd=folder)
    assert back.returncode == 0, back.stderr
    figures = _run("show", "out", "--json", cwd=folder)
    assert json.loads(figures.stdout) == json.loads(first.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks"],
        ["tasks", "--json"],
        ["tasks", "show", "mini_math", "--level", "4", "--n", "3"],
        ["doctor"],
        ["--help"],
        ["--version"],
    ],
)
def test_informing_commands_succeed(arguments: list[str], tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_tasks_lists_all_benchmarks_with_licence_and_hash(tmp_path: Path) -> None:
    rows = [json.loads(raw) for raw in _run("tasks", "--json", cwd=tmp_path).stdout.splitlines()]
    wanted = {
        "aime2024",
        "math500",
        "math",
        "amc23",
        "olympiadbench",
        "collegemath",
        "gaokao2023en",
        "gsm8k",
        "omni_math",
        "mini_math",
    }
    assert wanted <= {row["name"] for row in rows}
    assert all(row["licence"] and row["sha256"] and row["size"] for row in rows)
