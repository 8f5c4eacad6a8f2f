"""Every mistake of a user: one line on standard error (what, the value, the mend), exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rstar_eval.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RSTAR_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RSTAR_EVAL_DATA", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rstar-eval", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _assert_one_line(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    lines = [line for line in err.splitlines() if line and not line.startswith("note: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0], err


SCRIPTED = ("--policy", "scripted", "--task", "mini_math", "--limit", "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "aime204"], ["aime204", "did you mean aime2024?"]),
        (["--task", "mini_math,gsmk8"], ["gsmk8", "gsm8k"]),
        ([*SCRIPTED, "--rollouts", "-3"], ["rollouts", "-3"]),
        ([*SCRIPTED, "--rollouts", "0"], ["rollouts", "0"]),
        ([*SCRIPTED, "--rollouts", "many"], ["--rollouts", "many"]),
        ([*SCRIPTED, "--rollouts", "4", "--trees", "3"], ["rollouts 4", "trees 3"]),
        ([*SCRIPTED, "--limit", "0"], ["limit", "0"]),
        ([*SCRIPTED, "--ids", "zzzz"], ["zzzz"]),
        ([*SCRIPTED, "--ids", "99999"], ["99999"]),
        ([*SCRIPTED, "--strategy", "mtcs"], ["mtcs", "mcts"]),
        ([*SCRIPTED, "--strategy", "best-of-n"], ["best-of-n", "--reward"]),
        ([*SCRIPTED, "--grader", "officiall"], ["officiall", "official"]),
        ([*SCRIPTED, "--preset", "papr"], ["papr", "paper"]),
        ([*SCRIPTED, "--isolation", "stronk"], ["stronk", "strong"]),
        ([*SCRIPTED, "--set", "candidates"], ["candidates", "key=value"]),
        ([*SCRIPTED, "--set", "candidate=3"], ["candidate", "candidates"]),
        ([*SCRIPTED, "--config", "no.yaml"], ["no.yaml"]),
        ([*SCRIPTED, "--rolouts", "3"], ["--rolouts", "--rollouts"]),
        (["--task", "mini_math", "--policy", "opnai:x"], ["opnai", "openai"]),
        (["--task", "mini_math", "--policy", "gguf:/no/such.gguf"], ["/no/such.gguf"]),
        (["--task", "mini_math", "--policy", "hf:/no/such/model"], ["/no/such/model"]),
        (["--task", "mini_math", "--policy", "scripted:/no/such.jsonl"], ["/no/such.jsonl"]),
        (["--task", "no_such.yaml"], ["no_such.yaml"]),
        (["--policy", "scripted"], ["--task"]),
        (["show", "no/run"], ["no/run"]),
        (["tasks", "show", "mini_maths"], ["mini_maths", "mini_math"]),
        (["tasks", "show", "mini_math", "--level", "9"], ["9", "1"]),
        (["regrade", "no/run", "--grader", "string"], ["no/run"]),
        (["grade", "--pairs", "no.jsonl"], ["no.jsonl"]),
        (["sandbox", "--snippets", "no.jsonl"], ["no.jsonl"]),
        (["replay", "--cases", "no.jsonl"], ["no.jsonl"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_the_value_and_the_mend(cli: Run, arguments: list[str], words: list[str]) -> None:
    _assert_one_line(cli(*arguments), *words)


@pytest.mark.parametrize("content", [b"not a model", b"GGUF", b""])
def test_a_file_that_is_no_model_is_named(cli: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "thing.gguf").write_bytes(content)
    _assert_one_line(cli("--task", "mini_math", "--policy", f"gguf:{tmp_path / 'thing.gguf'}"), "thing.gguf")


def test_a_folder_that_is_no_model_is_named(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    _assert_one_line(cli("--task", "mini_math", "--policy", f"hf:{tmp_path / 'thing'}"), "thing")


def test_an_unreachable_server_is_named(cli: Run) -> None:
    port = _free_port()
    result = cli("--task", "mini_math", "--limit", "1", "--policy", f"openai:m@http://127.0.0.1:{port}/v1")
    _assert_one_line(result, f"127.0.0.1:{port}")


def test_a_broken_task_yaml_is_named(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: [x\n")
    _assert_one_line(cli("--policy", "scripted", "--task", str(tmp_path / "own.yaml")), "own.yaml", "line")


def test_missing_data_says_which_file_to_put_where(cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    result = cli("--policy", "scripted", "--task", "aime2024")
    _assert_one_line(result, "aime2024_test.json", str(tmp_path / "cache"), "--data-dir")


def test_changed_data_is_refused_and_left_alone(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "aime2024_test.json"
    file.write_text('[{"index": "0", "question": "1+1?", "answer": "2"}]')
    result = cli("--policy", "scripted", "--task", "aime2024", "--data-dir", str(tmp_path / "data"))
    _assert_one_line(result, "0accce80b9de28204d3938d8f24c86f26dd26f60a9ede8e395da7053947b4ee0", "aime2024_test.json")
    assert file.exists()


def test_an_unknown_reward_model_is_named(cli: Run, nothing_runs: None) -> None:
    _assert_one_line(cli(*SCRIPTED, "--reward", "magic"), "magic")


def test_another_configuration_in_the_folder_is_refused_with_the_differing_keys(cli: Run, nothing_runs: None) -> None:
    assert cli(*SCRIPTED, "--rollouts", "2", "--output", "out")[0] == 0
    manifest = Path("out/manifest.json").read_text()
    result = cli(*SCRIPTED, "--rollouts", "4", "--seed", "9", "--output", "out")
    _assert_one_line(result, "rollouts is 2 there and 4 here", "seed is 0 there and 9 here", "--output")
    assert Path("out/manifest.json").read_text() == manifest


def test_a_folder_with_other_files_is_refused(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    _assert_one_line(cli(*SCRIPTED, "--output", "mine"), "mine", "--output")


def test_a_file_as_output_folder_is_refused(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    _assert_one_line(cli(*SCRIPTED, "--output", "file"), "file", "--output")
    assert (tmp_path / "file").read_text() == "keep"


def test_a_read_only_file_system_is_refused(cli: Run) -> None:
    if not Path("/sys").is_dir() or os.access("/sys", os.W_OK) is False:
        pytest.skip("no read-only pseudo file system at /sys")
    _assert_one_line(cli(*SCRIPTED, "--output", "/sys/rstar-eval-run"), "/sys/rstar-eval-run", "--output")


def test_a_full_disk_keeps_finished_work(cli: Run, tmp_path: Path, nothing_runs: None) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mount.returncode:
        pytest.skip("can't mount a tmpfs here")
    try:
        arguments = ("--policy", "scripted", "--task", "mini_math", "--rollouts", "16", "--output", str(small / "run"))
        code, _, err = cli(*arguments, "--limit", "60")
        assert code == 2, err
        last = err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "No space left" in last
        assert "Traceback" not in err
        lines = (small / "run" / "trajectories.jsonl").read_bytes().splitlines(keepends=True)
        assert lines
        assert all(json.loads(line) for line in lines)
        kept = len(lines)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert cli(*arguments, "--limit", str(kept + 2))[0] == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
