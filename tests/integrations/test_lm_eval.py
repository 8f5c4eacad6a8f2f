"""lm-eval's side: tasks load from any folder, all repeats are scored by our grader, the solver is a model that never
sees a document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rstar_eval.errors import UserError
from rstar_eval.grading import GRADERS
from rstar_eval.tasks.registry import TASKS

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra lm-eval)")

from rstar_eval.integrations import lm_eval_cli, lm_eval_tasks
from rstar_eval.integrations.lm_eval_model import RStarLM

DOC: dict[str, Any] = {
    "id": "0" * 16, "task": "t", "index": 0, "question": "What is one half?", "answer": "1/2", "alternatives": [],
    "level": "", "subject": "",
}  # fmt: skip


class Request:
    """An lm-eval Instance whose document is out of bounds."""

    def __init__(self, prompt: str, **settings: Any) -> None:
        self.args = (prompt, settings)

    @property
    def doc(self) -> Any:
        raise AssertionError("the model read the document, which holds the reference answer")


def test_every_task_has_a_yaml_that_lm_eval_loads() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(lm_eval_tasks.task_folder()), include_defaults=False)
    names = lm_eval_tasks.task_names()
    assert set(names) <= set(manager.all_subtasks)
    assert {"rstar_math", "rstar_mini"} <= set(manager.all_groups)
    known = {
        yaml.safe_load((lm_eval_tasks.task_folder() / f"{name}.yaml").read_text())["dataset_kwargs"]["rstar_task"]
        for name in names
    }
    assert known == {name for name in TASKS if name not in ("mini_validation", "reasoning_gym")}
    task = manager.load(["rstar_mini_aime"])["tasks"]["rstar_mini_aime"]
    assert len(list(task.test_docs())) == 30
    assert task.doc_to_text(task.test_docs()[0]).endswith("within \\boxed{}.")


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        (["so \\boxed{0.5}"], {"acc": 1, "avg@1": 1, "maj@1": 1, "pass@1": 1, "no_answer": 0}),
        (["\\boxed{3}", "\\boxed{\\frac12}", "The answer is 1/2."], {"avg@3": 2 / 3, "maj@3": 1, "pass@3": 1}),
        (["", "\\boxed{2}", "\\boxed{0.5}", "I do not know, this is a long text that states nothing. " * 4],
         {"acc": 0, "avg@4": 1 / 4, "maj@4": 0.5, "pass@2": 0.5, "no_answer": 0.5}),
    ],
)  # fmt: skip
def test_all_repeats_are_scored(responses: list[str], expected: dict[str, float]) -> None:
    found = lm_eval_tasks.score(DOC, [responses])
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    declared = {one["metric"] for one in lm_eval_tasks.metric_list(len(responses))}
    assert set(found) == declared


def test_the_version_stands_for_prompt_and_grader() -> None:
    # Who changes one of these raises metadata.version in tasks/lm_eval/_base_yaml and writes the new triple here.
    text = (lm_eval_tasks.task_folder() / "_base_yaml").read_text()
    version = next(line.split(":")[1].strip() for line in text.splitlines() if line.strip().startswith("version"))
    grader = GRADERS[lm_eval_tasks.GRADER].version
    assert (version, lm_eval_tasks.prompt({"question": "Q"}), grader) == (
        "3.0",
        "Q\n\nReason step by step, and put your final answer within \\boxed{}.",
        "3",
    )


def test_the_model_answers_in_a_box_from_the_prompt_alone(tmp_path: Path) -> None:
    log = tmp_path / "budget.jsonl"
    model = RStarLM(policy="scripted", strategy="majority", rollouts=2, seed=3, budget_log=str(log), batch_size=1)
    prompts = [lm_eval_tasks.prompt({"question": f"{i} + 1?"}) for i in (1, 2, 1)]
    kept: list[tuple[str, tuple[str, dict[str, Any]], str]] = []

    class Hook:  # lm-eval's --use_cache: each answer is kept as soon as it is there
        def add_partial(self, method: str, request: tuple[str, dict[str, Any]], text: str) -> None:
            kept.append((method, request, text))

    model.set_cache_hook(Hook())
    texts = model.generate_until([Request(one, until=["</s>"]) for one in prompts])  # type: ignore[misc]
    assert all(text.startswith("The final answer is \\boxed{") for text in texts)
    expected = [("generate_until", (one, {"until": ["</s>"]}), text) for one, text in zip(prompts, texts, strict=True)]
    assert sorted(kept, key=repr) == sorted(expected, key=repr)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["repeat"] for line in lines) == [0, 0, 1]
    assert model.budget.completion_tokens == sum(line["budget"]["completion_tokens"] for line in lines) > 0
    assert model.get_model_info()["rstar_budget"]["completion_tokens"] == model.budget.completion_tokens
    again = RStarLM(policy="scripted", strategy="majority", rollouts=2, seed=3)
    assert again.generate_until([Request(one) for one in prompts]) == texts  # type: ignore[misc]


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("How many?\n\nReason step by step, and put your final answer within \\boxed{}.", "How many?"),
        ("Problem: how many?\nAnswer:", "Problem: how many?\nAnswer:"),
    ],
)
def test_the_question_is_read_from_the_prompt(prompt: str, question: str) -> None:
    assert lm_eval_tasks.question_of(prompt) == question


def test_likelihoods_are_refused_in_words() -> None:
    model = RStarLM(policy="scripted")
    for method in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(NotImplementedError, match="use it with generate_until tasks"):
            method([])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean rollouts"):
        RStarLM(policy="scripted", rolouts=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--repeats"], "--repeats has no value"),
        (["run", "--repeats", "x"], "are no numbers"),
        (["run", "--repeats=0"], "give at least 1"),
        (["run", "--include_path", "p"], "taken by the rstar tasks"),
    ],
)
def test_bad_options_of_the_wrapper(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        lm_eval_cli.run_lm_eval(arguments)


def test_lm_eval_runs_our_tasks_with_our_model() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found = simple_evaluate(
        model="rstar",
        model_args="policy=scripted,strategy=majority,rollouts=2",
        tasks=["rstar_mini_aime"],
        task_manager=TaskManager(include_path=str(lm_eval_tasks.task_folder()), include_defaults=False),
        limit=2,
        bootstrap_iters=0,
        log_samples=True,
    )
    assert {"acc,all", "maj@1,all", "pass@1,all", "avg@1,all"} <= set(found["results"]["rstar_mini_aime"])
    assert found["config"]["rstar_budget"]["completion_tokens"] > 0
    rows = found["samples"]["rstar_mini_aime"]
    assert len(rows) == 2
    for row in rows:
        assert row["doc"]["question"] in row["arguments"][0][0]
        assert row["acc"] == lm_eval_tasks.score(row["doc"], [row["resps"][0]])["acc"]


@pytest.mark.slow
def test_the_command_line_end_to_end(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "rstar_eval.cli", "lm-eval", "run", "--model", "rstar", "--model_args",
        "policy=scripted,strategy=majority,rollouts=2", "--tasks", "rstar_mini_aime", "--limit", "2", "--repeats", "2",
        "--output_path", str(tmp_path), "--log_samples",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = tmp_path.glob("**/results_*.json")
    found = json.loads(results.read_text())
    assert {"acc,all", "maj@2,all", "pass@2,all", "avg@2,all"} <= set(found["results"]["rstar_mini_aime"])
    assert found["config"]["rstar_budget"]["completion_tokens"] > 0
    (samples,) = tmp_path.glob("**/samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:  # what was asked never holds what the document knows
        assert row["doc"]["question"] in row["arguments"]["gen_args_0"]["arg_0"]
        assert row["acc"] == lm_eval_tasks.score(row["doc"], [row["resps"][0]])["acc"]


@pytest.mark.slow
def test_lm_eval_s_own_validation_passes_on_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    names = [*lm_eval_tasks.task_names(), "rstar_math", "rstar_mini"]
    lm_eval_cli.run_lm_eval(["validate", "--tasks", ",".join(names)])
    assert "All tasks found and valid" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        lm_eval_cli.run_lm_eval(["validate", "--tasks", "rstar_gsm8"])
