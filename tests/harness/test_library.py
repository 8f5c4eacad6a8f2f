"""The library's evaluate: the main job as a function, in and outside of an event loop; and the documented examples."""

from __future__ import annotations

import asyncio
import doctest
import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from rstar_eval import UserError, evaluate, evaluate_async, solve, solve_async
from rstar_eval.store import MANIFEST

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTINGS: dict[str, Any] = {"policy": "scripted", "strategy": "majority", "rollouts": 2, "limit": 3}
QUICK = pytest.mark.usefixtures("nothing_runs")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@QUICK
@pytest.mark.parametrize("tasks", ["mini_math,mini_aime", ["mini_math", "mini_aime"]])
def test_a_call_runs_stores_and_continues(tasks: str | list[str]) -> None:
    outcome = evaluate(tasks, **SETTINGS)
    assert list(outcome.tasks) == ["mini_math", "mini_aime"]
    assert [one.n for one in outcome.tasks.values()] == [3, 3]
    assert not outcome.stopped
    assert outcome.path.parent == Path("runs")
    stored = json.loads((outcome.path / "summary.json").read_text())
    assert stored["tasks"]["mini_math"]["accuracy"] == round(outcome.tasks["mini_math"].accuracy, 6)
    log = (outcome.path / "trajectories.jsonl").read_bytes()
    again = evaluate(tasks, **{**SETTINGS, "limit": 4})
    assert (again.path, again.tasks["mini_math"].n) == (outcome.path, 4)
    assert (again.path / "trajectories.jsonl").read_bytes().startswith(log)


def test_a_task_s_own_defaults_hold_as_on_the_command_line() -> None:
    from rstar_eval.library import library_config

    assert library_config("mini_math", None, {}).policy.startswith("hf:embedded/")
    assert library_config("mini_math", None, {"policy": "scripted"}).reward is None
    config = library_config(Path("own.yaml"), "mini", {"policy": "scripted", "data_dir": Path("d"), "rollouts": 3})
    assert (config.tasks, config.data_dir, config.search.rollouts, config.search.candidates) == (
        ("own.yaml",), "d", 3, 3,
    )  # fmt: skip


@QUICK
def test_several_at_once_in_one_event_loop() -> None:
    async def both() -> list[int]:
        asked = (evaluate_async("mini_math", output=name, **SETTINGS) for name in ("a", "b"))
        return [one.tasks["mini_math"].n for one in await asyncio.gather(*asked)]

    assert asyncio.run(both()) == [3, 3]
    assert Path("a", MANIFEST).exists()


@QUICK
def test_a_cancelled_run_is_stored_and_continues() -> None:
    slow = {**SETTINGS, "policy": "scripted?delay=0.05", "limit": 40}

    async def cancelled() -> None:
        work = asyncio.ensure_future(evaluate_async("mini_math", output="run", **slow))
        while not Path("run", "grades.jsonl").exists():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    assert json.loads(Path("run", MANIFEST).read_text())["sessions"][-1]["ended"] == "stopped"
    before = len(Path("run", "grades.jsonl").read_text().splitlines())
    assert 0 < before < 40
    done = evaluate("mini_math", output="run", **{**slow, "policy": "scripted?delay=0"})
    assert done.tasks["mini_math"].n == 40


def test_in_an_event_loop_the_twin_to_await_is_named() -> None:
    async def call(function: Any) -> None:
        function("mini_math", policy="scripted")

    for function in (evaluate, solve):
        with pytest.raises(UserError, match=rf"await {function.__name__}_async\(\.\.\.\)"):
            asyncio.run(call(function))


@QUICK
def test_it_runs_in_another_thread_than_the_main_one() -> None:
    found: list[int] = []
    worker = threading.Thread(target=lambda: found.append(evaluate("mini_math", **SETTINGS).tasks["mini_math"].n))
    worker.start()
    worker.join(60)
    assert found == [3]


@QUICK
def test_solving_in_an_event_loop_gives_the_same_answer() -> None:
    settings = {"policy": "scripted", "strategy": "majority", "rollouts": 4, "seed": 2}
    assert asyncio.run(solve_async("What is 2 + 3?", **settings)).answer == solve("What is 2 + 3?", **settings).answer


@QUICK
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "hf:no/where"}, "no model at 'no/where'"),
        ({"policy": "scripted", "rolouts": 3}, "did you mean rollouts"),
        ({"policy": "scripted", "reward": "ppm:no/where"}, "no/where"),
        ({"policy": "scripted", "track": "mlfow"}, "did you mean mlflow"),
    ],
)
def test_what_fails_before_it_begins_leaves_no_folder(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate("mini_math", limit=1, **settings)
    assert list(Path().iterdir()) == []


def test_stopped_while_the_models_load_there_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    monkeypatch.setattr("rstar_eval.engine.local.make_policy", load)
    with pytest.raises(KeyboardInterrupt):
        evaluate("mini_math", **SETTINGS)
    assert list(Path().iterdir()) == []


def test_a_folder_that_was_there_stays() -> None:
    Path("runs").mkdir()
    Path("runs", "notes.txt").write_text("mine")
    with pytest.raises(UserError):
        evaluate("mini_math", limit=1, policy="hf:no/where")
    assert [path.name for path in Path("runs").iterdir()] == ["notes.txt"]
    Path("mine").mkdir()
    with pytest.raises(UserError):
        evaluate("mini_math", limit=1, policy="hf:no/where", output="mine")
    assert Path("mine").is_dir()


@pytest.mark.slow
def test_the_documented_examples_run_in_the_sandbox() -> None:
    _run_examples()


@pytest.mark.usefixtures("nothing_runs")
def test_the_documented_examples_run() -> None:
    _run_examples()


def _run_examples() -> None:
    """Run docs/library.md as it stands."""
    pytest.importorskip("torch", reason="the embedded checkpoints need the extra hf")
    text = (DOCS / "library.md").read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(
        re.sub(r"^```.*$", "", text, flags=re.M), {}, "library.md", str(DOCS / "library.md"), 0
    )
    assert len(examples.examples) > 20
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    report: list[str] = []
    runner.run(examples, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize(
    "name", ["evaluate", "evaluate_async", "solve", "solve_async", "grade", "compare", "load_task"]
)
def test_every_public_function_is_in_the_documentation(name: str) -> None:
    assert f"{name}(" in (DOCS / "library.md").read_text(encoding="utf-8")
    assert re.search(rf"^::: rstar_eval\.\w+\.{name}$", (DOCS / "reference" / "library.md").read_text(), flags=re.M)
