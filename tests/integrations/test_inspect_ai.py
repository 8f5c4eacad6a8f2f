"""inspect_ai's side, with its mock model: our grader scores, the search is a solver that sees no target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed (extra inspect)")

import inspect_ai
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageUser, GenerateConfig, ModelName, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState

from rstar_eval.errors import UserError
from rstar_eval.grading import GRADERS
from rstar_eval.integrations import inspect_ai_solver, inspect_ai_tasks, lm_eval_tasks
from rstar_eval.integrations.inspect_ai_solver import search
from rstar_eval.integrations.inspect_ai_tasks import NAMED, benchmark, equivalence
from rstar_eval.tasks import TASKS


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))


def _eval(task: Any, **options: Any) -> Any:
    (log,) = inspect_ai.eval(task, display="none", score_display=False, **options)
    assert log.status == "success", log.error
    return log


def _metrics(log: Any) -> dict[str, dict[str, float]]:
    return {one.name: {name: metric.value for name, metric in one.metrics.items()} for one in log.results.scores}


def _says(text: str) -> ModelOutput:
    """A response of the mock model; without usage it would count tokens by a tokenizer that it downloads."""
    output = ModelOutput.from_content("mockllm", text)
    output.usage = ModelUsage(input_tokens=20, output_tokens=len(text.split()), total_tokens=20 + len(text.split()))
    return output


def _own(*answers: str | list[str]) -> Any:
    samples = [
        Sample(id=f"{i:016x}", input=f"Question {i}?", target=target, metadata={"task": "own", "index": i})
        for i, target in enumerate(answers)
    ]
    return inspect_ai.Task(dataset=MemoryDataset(samples), scorer=equivalence())


def test_responses_are_graded_by_our_grader() -> None:
    texts = ["so \\boxed{0.5}", "\\boxed{3}", "", "The answer is \\boxed{y = 2}."]
    outputs = [_says(text) for text in texts]
    log = _eval(
        _own("\\frac{1}{2}", "4", "5", ["7", "y=2"]),
        model=get_model("mockllm/model", custom_outputs=outputs),
        max_samples=1,
    )
    scores = [sample.scores["equivalence"] for sample in log.samples]
    assert [(one.value["correct"], one.value["no_answer"], one.answer) for one in scores] == [
        (1, 0, "0.5"), (0, 0, "3"), (0, 1, None), (1, 0, "y = 2"),
    ]  # fmt: skip
    assert scores[0].explanation.startswith("correct by ")
    metrics = _metrics(log)
    assert metrics["correct"]["accuracy"] == 0.5
    assert metrics["correct"]["stderr"] > 0
    assert (metrics["no_answer"]["mean"], metrics["grader_error"]["mean"]) == (0.25, 0)


def test_epochs_are_reduced_as_inspect_ai_does() -> None:
    outputs = [_says(f"\\boxed{{{answer}}}") for answer in (1, 2, 2, 3)]
    log = _eval(
        _own("3"),
        model=get_model("mockllm/model", custom_outputs=outputs),
        epochs=inspect_ai.Epochs(4, ["mean", "at_least_1", "pass_at_2"]),
        max_samples=1,
    )
    found = {one.reducer: one.metrics["accuracy"].value for one in log.results.scores if one.name == "correct"}
    assert found == {"mean": 0.25, "at_least_1": 1, "pass_at_2": pytest.approx(0.5)}


def test_every_task_is_there_with_the_lm_eval_tasks_prompt_and_version() -> None:
    assert set(NAMED) == set(TASKS)
    task = NAMED["mini_aime"]()
    assert len(task.dataset) == 30
    sample = task.dataset[0]
    assert sample.input == lm_eval_tasks.prompt({"question": sample.input.removesuffix(lm_eval_tasks.INSTRUCTION)})
    assert (task.name, task.version) == ("mini_aime", inspect_ai_tasks.VERSION)
    text = (lm_eval_tasks.task_folder() / "_base_yaml").read_text()
    assert f"version: {inspect_ai_tasks.VERSION}.0" in text
    assert GRADERS[lm_eval_tasks.GRADER].version == str(inspect_ai_tasks.VERSION)
    with pytest.raises(UserError, match="did you mean gsm8k"):
        benchmark("gsm8")


class Writer:
    """The mock model's side: a model that continues a begun reply, right for questions of the form "A + B"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, GenerateConfig]] = []

    def __call__(self, input: list[ChatMessage], tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
        text = input[-1].text
        self.asked.append((text, config))
        begun = text.rpartition("\n\n")[2] if "has already begun" in text else ""
        question = text.split("Your reply has already begun")[0].strip()
        a, b = (int(word.strip("?. ")) for word in question.splitlines()[0].split(" is ")[1].split("+"))
        full = text.partition("do not repeat it:\n\n")[2]
        if full.rstrip().endswith("The answer is \\boxed{"):
            printed = full.partition("```output\n")[2].split("\n")[0]
            return _says(f"{printed}}}.")
        assert begun or full
        return _says(f" Add.\nprint({a} + {b})\n```\nand so on")


def _sums() -> Any:
    samples = [
        Sample(id=f"{i:016x}", input=f"What is {i} + 4?{lm_eval_tasks.INSTRUCTION}", target=f"{i + 4}")
        for i in range(3)
    ]
    return inspect_ai.Task(dataset=MemoryDataset(samples), scorer=equivalence())


def test_the_evaluated_model_writes_the_steps_and_our_sandbox_runs_them() -> None:
    writer = Writer()
    model = get_model("mockllm/model", custom_outputs=writer)
    log = _eval(_sums(), model=model, solver=search(strategy="majority", rollouts=2, seed=5))
    assert _metrics(log)["correct"]["accuracy"] == 1
    for sample in log.samples:
        assert sample.output.completion == f"The final answer is \\boxed{{{sample.target}}}."
        told = sample.metadata["rstar"]
        assert told["choice"]["rule"] == "majority"
        assert told["budget"]["code_runs"] > 0
        assert sample.output.usage.output_tokens == told["budget"]["completion_tokens"]
    calls = [event for sample in log.samples for event in sample.events if event.event == "model"]
    assert len(calls) == len(writer.asked) > 0
    seeds = {config.seed for _, config in writer.asked}
    assert len(seeds) > 1
    assert not inspect_ai_solver._Held.open
    for text, _ in writer.asked:
        assert lm_eval_tasks.INSTRUCTION.strip() not in text


@pytest.mark.usefixtures("nothing_runs")
def test_a_policy_of_ours_needs_no_model_and_epochs_have_other_seeds() -> None:
    solver = search(policy="scripted", strategy="majority", rollouts=2)
    log = _eval(benchmark("mini_math"), model="none/none", solver=solver, limit=2, epochs=2)
    assert all(sample.metadata["rstar"]["budget"]["completion_tokens"] > 0 for sample in log.samples)
    first, second = ([one for one in log.samples if one.epoch == epoch] for epoch in (1, 2))
    assert [json.dumps(one.metadata["rstar"]) for one in first] != [json.dumps(one.metadata["rstar"]) for one in second]
    again = _eval(benchmark("mini_math"), model="none/none", solver=solver, limit=2, epochs=2)  # opened again
    assert [one.output.completion for one in again.samples] == [one.output.completion for one in log.samples]
    assert not inspect_ai_solver._Held.open


@pytest.mark.usefixtures("nothing_runs")
def test_the_target_is_never_read() -> None:
    import asyncio

    class Untouchable(Target):
        def __getattribute__(self, name: str) -> Any:
            if name in ("target", "text"):
                raise AssertionError("the solver read the target")
            return super().__getattribute__(name)

    prompt = f"What is 1 + 1?{lm_eval_tasks.INSTRUCTION}"
    state = TaskState(
        ModelName("mockllm/model"), "0" * 16, 1, prompt, [ChatMessageUser(content=prompt)], target=Untouchable("2")
    )

    async def run() -> TaskState:
        solver = search(policy="scripted", strategy="greedy")
        try:
            return await solver(state, None)  # type: ignore[arg-type]
        finally:
            await inspect_ai_solver.CloseModels().on_run_end(None)  # type: ignore[arg-type]

    assert asyncio.run(run()).output.completion.startswith("The final answer is")


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean rollouts"):
        search(rolouts=3)
    with pytest.raises(UserError, match="unknown preset"):
        search(preset="minni")
