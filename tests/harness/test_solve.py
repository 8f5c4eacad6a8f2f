"""`rstar-eval solve` and `rstar_eval.solve`: every strategy, JSON, terminals, stopping, mistakes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rstar_eval
from rstar_eval.cli import app
from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.live import Picture
from rstar_eval.solver.executor.levels import as_level
from rstar_eval.solver.strategies import STRATEGIES
from rstar_eval.solver.types import Budget, StepRun

QUESTION = "What is 17 * 24 + 3?"
_LINE = re.compile(r"(\w+) = (\w+) ([-+*]) (\w+)|print\((\w+)\)")


class Arithmetic:
    """Stands in for the sandbox, which takes a second to start: assignments of sums and products, and prints."""

    level = "double"

    def __init__(self) -> None:
        self.states: list[dict[str, int]] = []

    async def open(self, key: str) -> Arithmetic:
        return self

    async def run(self, parent: int | None, code: str) -> StepRun:
        names = {} if parent is None else dict(self.states[parent])
        printed = []

        def value(word: str) -> int:
            return int(word) if word.isdigit() else names[word]

        for line in code.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                return StepRun(-1, "error", error_type="SyntaxError", error="invalid syntax")
            name, left, sign, right, shown = match.groups()
            try:
                if shown is not None:
                    printed.append(f"{value(shown)}\n")
                    continue
                one, other = value(left), value(right)
            except KeyError as error:
                return StepRun(-1, "error", error_type="NameError", error=str(error))
            names[name] = {"+": one + other, "-": one - other, "*": one * other}[sign]
        self.states.append(names)
        return StepRun(len(self.states) - 1, "ok", "".join(printed))

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(isolation: str | None, **options: Any) -> Arithmetic:
        if isolation is not None:
            as_level(isolation)
        return Arithmetic()

    monkeypatch.setattr("rstar_eval.solving.start_executor", start)


COMMAND = [sys.executable, "-m", "rstar_eval.cli", "solve", QUESTION]


def invoke(*arguments: str, text: str | None = None) -> Any:
    return CliRunner().invoke(app, ["solve", *arguments], input=text)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_solves_and_says_what_it_spent(strategy: str) -> None:
    events: list[Any] = []
    reward = {"reward": "scripted"} if STRATEGIES[strategy].needs_reward else {}
    found = rstar_eval.solve(
        QUESTION,
        observer=events.append,
        policy="scripted?errors=0",
        strategy=strategy,
        rollouts=8,
        candidates=4,
        **reward,
    )
    assert found.answer == found.choice.answer
    assert found.answer is not None
    assert not found.stopped
    assert 1 <= len(found.trajectories) <= 8
    assert (found.trees[0] is not None) == STRATEGIES[strategy].tree
    assert found.budget.completion_tokens > 0
    told = [event.trajectory for event in events if event.trajectory is not None]
    finished = [one for one in found.trajectories if one.answer is not None]
    assert {(one.rollout, one.answer) for one in finished} <= {(one.rollout, one.answer) for one in told}
    assert any(event.trajectory is None for event in events)


def test_the_same_settings_give_the_same_solution_watched_or_not() -> None:
    settings = {"policy": "scripted", "rollouts": 6, "trees": 2, "reward": "scripted"}
    alone = rstar_eval.solve(QUESTION, **settings)
    watched = rstar_eval.solve(QUESTION, observer=lambda event: None, **settings)
    one, other = alone.data(), watched.data()
    for data in (one, other):
        data["budget"].pop("cpu_seconds")
        data.pop("seconds")
    assert one == other
    assert len(alone.trees) == 2
    assert {each.tree for each in alone.trajectories} == {0, 1}


def test_json_is_one_object_with_answer_trajectories_budget_and_tree() -> None:
    result = invoke(QUESTION, "--policy", "scripted", "--rollouts", "4", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert {"question", "answer", "choice", "trajectories", "budget", "tree", "stopped"} <= data.keys()
    assert data["tree"]["nodes"][0]["tag"] == "0"
    assert len(data["trajectories"]) == 4
    assert set(data["budget"]) == set(Budget.__slots__)


def test_plain_output_has_the_tree_the_line_the_vote_and_the_answer() -> None:
    result = invoke(QUESTION, "--policy", "scripted", "--preset", "mini", "--set", "rollouts=3")
    assert result.exit_code == 0
    for part in ("* 0 N=", "the line that the answer is taken from", "output: ", "vote (majority)", "answer: "):
        assert part in result.output
    assert "\x1b" not in result.output


def test_questions_come_from_a_file_or_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "q.txt"
    file.write_text(QUESTION)
    for arguments, text in (
        (["--question-file", str(file)], None),
        (["-"], QUESTION),
        (["--question-file", "-"], QUESTION),
    ):
        result = invoke(*arguments, "--policy", "scripted", "--strategy", "greedy", "--json", text=text)
        assert json.loads(result.stdout)["question"] == QUESTION


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the question"),
        (["  "], "the question is empty"),
        (["q", "--question-file", "f"], "two questions"),
        (["--question-file", "/nowhere"], "can't read question file '/nowhere'"),
        (["q", "--policy", "scriptd"], "did you mean scripted?"),
        (["q", "--policy", "scripted", "--strategy", "beems"], "did you mean beam?"),
        (["q", "--policy", "scripted", "--strategy", "best-of-n"], "needs a reward model"),
        (["q", "--policy", "scripted", "--candidates", "0"], "candidates is 0"),
        (["q", "--policy", "scripted", "--reward", "nope"], "unknown reward model 'nope'"),
        (["q", "--policy", "scripted", "--isolation", "total"], "total"),
        (["q", "--set", "nosuch=1"], "unknown setting 'nosuch'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str) -> None:
    error = invoke(*arguments).exception
    assert isinstance(error, UserError)
    assert said in str(error)


class Garbage:
    """A policy that writes what no step format knows."""

    name = "garbage"
    concurrency = 4

    def __init__(self) -> None:
        from rstar_eval.solver.formats.registry import get_format

        self.format = get_format("chat")

    async def sample(self, request: Any) -> Any:
        from rstar_eval.solver.types import Completion, SampleResult

        texts = ["", "\x1b[2J\ud800", "}{" * 9, "```\n" * 3, "\\boxed{" * 5, "import os; os.abort()", "日本 🙂"]
        return SampleResult(tuple(Completion(texts[i % 7], "eos", None, 3) for i in range(request.n)), 5)

    def describe(self) -> dict[str, object]:
        return {}

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("strategy", ["greedy", "majority", "mcts"])
def test_a_garbage_model_does_not_crash_it(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def garbage(spec: str, **options: Any) -> Garbage:
        return Garbage()

    monkeypatch.setattr("rstar_eval.solving.make_policy", garbage)
    result = invoke("q \x1b[31m", "--strategy", strategy, "--rollouts", "7", "--set", "candidates=7")
    assert result.exit_code == 0, result.output
    assert "answer: none found" in result.output or "answer: " in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("strategy", ["mcts", "majority"])
def test_the_picture_fits_the_screen_at_every_moment(strategy: str) -> None:
    from rich.console import Console

    config = build_config({"policy": "scripted", "strategy": strategy, "rollouts": 12})
    picture = Picture(QUESTION, config)
    heights: list[int] = []

    def draw(event: Any) -> None:
        picture.observe(event)
        console = Console(file=io.StringIO(), width=60, height=20, force_terminal=True)
        console.print(picture.draw(20))
        heights.append(len(console.file.getvalue().splitlines()))  # type: ignore[attr-defined]

    rstar_eval.solve(QUESTION, observer=draw, policy="scripted", strategy=strategy, rollouts=12)
    assert len(heights) > 5
    assert max(heights) <= 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_gives_what_was_found_and_130(number: int) -> None:
    options = ["--policy", "scripted?delay=0.15", "--rollouts", "500", "--json", "--set", "candidates=2"]
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("trajectory 2"):
            break
    process.send_signal(number)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    data = json.loads(out)
    assert data["stopped"] is True
    assert 2 <= len(data["trajectories"]) < 500
    assert data["answer"] is not None
    assert len(data["tree"]["nodes"]) > 2
    assert data["budget"]["completion_tokens"] > 0


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_sees_the_tree_grow() -> None:
    import pty

    controller, terminal = pty.openpty()
    options = ["--policy", "scripted?delay=0.3", "--rollouts", "3"]
    process = subprocess.Popen([*COMMAND, *options], stdout=terminal, stderr=terminal, stdin=terminal, close_fds=True)
    os.close(terminal)
    seen = b""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(controller)
    assert process.wait(timeout=60) == 0, seen.decode(errors="replace")[-2000:]
    text = seen.decode(errors="replace")
    assert "0 of 3 trajectories" in text or "1 of 3 trajectories" in text  # while it ran
    assert "2 of 3 trajectories" in text
    assert "no answer yet" in text
    assert "the line that the answer is taken from" in text  # at the end
