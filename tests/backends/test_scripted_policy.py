from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.types import Completion, ParsedStep, SampleRequest

REQUEST = SampleRequest("Add 12 and 30, then double it.", "", 6, seed=1)


def sample(spec: str, request: SampleRequest) -> tuple[Completion, ...]:
    async def go() -> tuple[Completion, ...]:
        return (await (await make_policy(spec)).sample(request)).completions

    return asyncio.run(go())


def steps(spec: str, request: SampleRequest) -> list[list[ParsedStep]]:
    step_format = asyncio.run(make_policy(spec)).format
    return [step_format.parse(request.prefix, completion) for completion in sample(spec, request)]


@pytest.mark.parametrize("style", ["chat", "rstar"])
def test_generated_programs_run_and_answer_with_their_output(style: str) -> None:
    spec = f"scripted?format={style}&noise=0&errors=0"
    step_format = asyncio.run(make_policy(spec)).format
    for block in steps(spec, replace(REQUEST, until="block")):
        assert [step.kind for step in block] == ["code"] * (len(block) - 1) + ["final_code"]
        assert 2 <= len(block) <= 4
        printed: list[str] = []
        exec("".join(step.code for step in block), {"print": lambda value, to=printed: to.append(str(value))})  # noqa: S102
        prefix = "".join(step.text for step in block) + step_format.render_output(printed[0])
        (answer,) = steps(spec, replace(REQUEST, prefix=prefix, n=1))
        assert [(step.kind, step.answer) for step in answer] == [("answer", printed[0])]


def test_noise_and_errors_do_what_they_say() -> None:
    wrong = steps("scripted?format=chat&noise=1", replace(REQUEST, prefix="```python\nx\n```\n```output\n777\n```\n"))
    assert all(one[0].kind == "answer" and one[0].answer != "777" for one in wrong)
    broken = steps("scripted?errors=1", REQUEST)
    assert all("undefined_name" in one[0].code for one in broken)


def test_candidates_vary_and_repeat() -> None:
    texts = [one[0].text for one in steps("scripted", replace(REQUEST, n=30))]
    assert 1 < len(set(texts)) < 30


def test_question_without_numbers_is_answered() -> None:
    assert len(sample("scripted", replace(REQUEST, question="Why?"))) == 6


def test_playback_gives_the_recorded_candidates(tmp_path: Path) -> None:
    script = tmp_path / "s.jsonl"
    record = {"question": "Q", "policy": {"": [["<code>\nx = 1\n", "<end_of_step>"], ["<code>\ny\n", None]]}}
    script.write_text(json.dumps(record) + "\n\n")
    given = sample(f"scripted:{script}", SampleRequest("Q", "", 3, seed=9))
    assert [(c.text, c.stop, c.finish) for c in given] == [
        ("<code>\nx = 1\n", "<end_of_step>", "stop"),
        ("<code>\ny\n", None, "eos"),
        ("<code>\nx = 1\n", "<end_of_step>", "stop"),
    ]
    with pytest.raises(BackendError, match="no candidates for 'Other'"):
        sample(f"scripted:{script}", SampleRequest("Other", "", 1, seed=0))
    with pytest.raises(BackendError, match="single steps"):
        sample(f"scripted:{script}", SampleRequest("Q", "", 1, seed=0, until="block"))


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"question": "q"}',
        '{"question": "q", "policy": {"": [["x"]]}}',
        '{"question": "q", "policy": {"": []}}',
    ],
)
def test_broken_script_names_the_line(tmp_path: Path, line: str) -> None:
    script = tmp_path / "s.jsonl"
    script.write_text('{"question": "q", "policy": {}}\n' + line)
    with pytest.raises(UserError, match="line 2 of the script"):
        sample(f"scripted:{script}", REQUEST)


def test_reference_searches_play_back(shared_data: Path) -> None:
    path = shared_data / "search" / "reference_trees.jsonl"
    record = json.loads(path.read_text().splitlines()[0])
    given = sample(f"scripted:{path}", SampleRequest(record["question"], "", record["config"]["n"], seed=0))
    assert [[c.text, c.stop] for c in given] == record["policy"][""]
