"""The backend is killed with SIGKILL in the middle of a run of 200 problems: the run ends cleanly, continues when the
server is back, and counts every token once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.records import comparable
from rstar_eval.store import GRADES, TRAJECTORIES, read_lines, read_manifest

SERVER = Path(__file__).with_name("scripted_server.py")
SETTINGS = ["--task", "mini_math", "--rollouts", "2", "--set", "candidates=2"]


class Server:
    """The scripted server as a process on one port; it can be killed and started again."""

    def __init__(self, log: Path, seconds: float) -> None:
        self.log, self.seconds, self.port = log, seconds, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(SERVER), str(self.port), str(self.log), str(self.seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def policy(self) -> str:
        return f"openai:script@http://127.0.0.1:{self.port}/v1?format=rstar&retries=1"

    def tokens(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()]


def start(output: Path, policy: str, limit: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rstar_eval.cli", *SETTINGS, "--policy", policy, "--limit", str(limit)]
    return subprocess.Popen(
        [*command, "--output", str(output), *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate(timeout=500)
    assert process.returncode == code, text
    return text


def records(output: Path) -> tuple[dict[Any, Any], dict[Any, Any]]:
    searches = [comparable(one) for one in read_lines(output, TRAJECTORIES)]
    grades = list(read_lines(output, GRADES))
    found = {one["problem"]: one for one in searches}, {one["problem"]: one for one in grades}
    assert (len(found[0]), len(found[1])) == (len(searches), len(grades)), "something was stored twice"
    return found


def tokens_of(output: Path, session: int) -> int:
    return sum(
        one["budget"]["completion_tokens"]
        for one in read_lines(output, TRAJECTORIES)
        if one["timing"]["session"] == session
    )


def wait_for(output: Path, searches: int, process: subprocess.Popen[str], seconds: float = 200) -> None:
    log, end = output / TRAJECTORIES, time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if log.exists() and log.read_bytes().count(b"\n") >= searches:
            return
        time.sleep(0.005)


def killed_in_the_middle(tmp_path: Path, problems: int, kill_at: list[int], seconds: float) -> None:
    finish(start(tmp_path / "calm", "scripted?format=rstar", problems))
    calm = records(tmp_path / "calm")
    server, output = Server(tmp_path / "tokens.log", seconds), tmp_path / "killed"
    try:
        before = 0
        for session, moment in enumerate(kill_at):
            process = start(output, server.policy, problems, "--concurrency", "8")
            wait_for(output, moment, process)
            server.kill()
            text = finish(process, 2)
            assert text.splitlines()[-1].startswith("error: ")
            assert "the same command continues" in text
            assert "Traceback" not in text
            cut_off = read_manifest(output)["sessions"][session].get("cut_off", {"searches": 0, "completion_tokens": 0})
            told = sum(server.tokens()) - before
            received = tokens_of(output, session) + cut_off["completion_tokens"]
            # A reply may have left the server and not have arrived, or have arrived and not be in the server's log.
            slack = 8 * max(server.tokens())
            assert abs(told - received) <= slack
            assert 0 <= cut_off["searches"] <= 8
            server.start()
            before = sum(server.tokens())
        finish(start(output, server.policy, problems, "--concurrency", "8"))
        assert sum(server.tokens()) - before == tokens_of(output, len(kill_at))
    finally:
        server.kill()
    assert records(output) == calm
    totals = [
        json.loads((path / "summary.json").read_text())["tasks"]["mini_math"] for path in (tmp_path / "calm", output)
    ]
    assert {**totals[0], "seconds": 0} == {**totals[1], "seconds": 0}
    assert sum(one["budget"]["completion_tokens"] for one in calm[0].values()) == totals[1]["tokens"]
    ends = [one["ended"] for one in read_manifest(output)["sessions"]]
    assert ends == ["failed"] * len(kill_at) + ["finished"]


def test_a_server_that_is_killed_in_the_middle_costs_no_token_twice(tmp_path: Path) -> None:
    killed_in_the_middle(tmp_path, problems=16, kill_at=[6], seconds=0.02)


@pytest.mark.slow
def test_two_hundred_problems_with_a_server_killed_three_times(tmp_path: Path) -> None:
    killed_in_the_middle(tmp_path, problems=200, kill_at=[30, 100, 160], seconds=0.005)


@pytest.mark.net
@pytest.mark.slow
def test_two_hundred_problems_with_our_own_llama_cpp_killed(tmp_path: Path) -> None:
    """The child is killed twice and started again within the run; each token of the store is in one trajectory."""
    model = os.environ.get("RSTAR_EVAL_GGUF")
    policy = f"gguf:{model}" if model else "smollm2"
    settings = ["--strategy", "greedy", "--set", "max_block_tokens=6", "--set", "max_depth=1"]
    output = tmp_path / "run"
    process = start(output, f"{policy}?parallel=8&ctx=1024", 200, *settings, "--concurrency", "8")
    killed = set()
    try:
        for searches in (40, 120):
            wait_for(output, searches, process, 1200)
            child = next(pid for pid in children(process.pid) if "llamacpp_child" in command_of(pid))
            os.kill(child, signal.SIGKILL)
            killed.add(child)
        text = finish(process)
    finally:
        process.kill()
    assert len(killed) == 2
    assert text.count("it is started again") == 2
    searches, grades = records(output)
    assert len(searches) == len(grades) == 200
    for one in searches.values():
        (trajectory,) = one["trajectories"]
        assert one["budget"]["completion_tokens"] == sum(step["tokens"] for step in trajectory["steps"])
    assert [one["ended"] for one in read_manifest(output)["sessions"]] == ["finished"]


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
