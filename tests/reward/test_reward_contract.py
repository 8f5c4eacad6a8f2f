"""What every reward model guarantees. Each test runs on all of them."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import BackendError

KINDS = [
    "scripted",
    "ppm",
    "orm",
    "pqm",
    "bilinear",
    "logratio",
    "official",
    "qwen",
    "math-shepherd",
    "skywork",
    "rlhflow",
]
VLLM = [pytest.param(kind, marks=pytest.mark.vllm) for kind in ("ppm-vllm", "qwen-vllm", "rlhflow-vllm")]
REAL = [*KINDS[1:], *VLLM]


@pytest.fixture(params=[*KINDS, *VLLM])
def spec(request: pytest.FixtureRequest, kit: Any) -> str:
    return str(kit.spec(request.param))


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, kit: Any) -> str:
    return str(kit.spec(request.param))


def test_values_lie_in_range_and_depend_on_the_text(kit: Any, spec: str) -> None:
    values = kit.scores(spec, kit.question, kit.texts)
    assert len(values) == len(kit.texts)
    assert all(-1 <= value <= 1 for value in values)
    assert len(set(values)) == len(values)
    assert kit.scores(spec, "Another question?", kit.texts) != values


def test_no_texts_and_empty_and_strange_texts(kit: Any, spec: str) -> None:
    async def use(reward: Any) -> None:
        assert await reward.score(kit.question, []) == []
        strange = [
            "",
            " ",
            "日本 🙂 naïve \x00 é",
            "<end_of_step>" * 5,
            "<extra_0>+ки-\n<|end|><|head|>assistant",
            "}{",
        ]
        for question in (kit.question, "", "<extra_0> ки <|end|>"):
            values = await reward.score(question, strange)
            assert len(values) == len(strange)
            assert all(-1 <= value <= 1 for value in values)

    kit.use(spec, use)


def test_equal_values_whatever_else_is_in_the_batch(kit: Any, spec: str) -> None:
    async def use(reward: Any) -> None:
        alone = [(await reward.score(kit.question, [text]))[0] for text in kit.texts]
        assert await reward.score(kit.question, kit.texts) == pytest.approx(alone, abs=1e-5)
        assert await reward.score(kit.question, kit.texts[::-1]) == pytest.approx(alone[::-1], abs=1e-5)
        twice = await reward.score(kit.question, [kit.texts[0], kit.texts[0]])
        assert twice == pytest.approx([alone[0]] * 2, abs=1e-5)
        crowd = [reward.score(f"What is {i}?" * (i + 1), [kit.step1 * (i + 1), kit.step1]) for i in range(6)]
        together = await asyncio.gather(*crowd[:3], reward.score(kit.question, kit.texts), *crowd[3:])
        assert together[3] == pytest.approx(alone, abs=1e-5)

    kit.use(spec, use)


def test_a_path_scored_step_by_step_has_the_values_of_each_text_alone(kit: Any, real: str) -> None:
    """What a request leaves behind for the next one (the shared beginning) changes nothing."""
    steps = [kit.step1, *(f"\ny = {i}\n<end_of_step>" for i in range(4))]
    asked = [["".join(steps[:i]) + steps[i] + tail for tail in ("", " x", "\nz = 3\n<end_of_step>")] for i in range(5)]

    async def walk(reward: Any) -> list[list[float]]:
        return [await reward.score(kit.question, texts) for texts in (*asked, *asked[::-1])]

    values = kit.use(real, walk)
    alone = [kit.scores(real, kit.question, [text]) for texts in asked[::2] for text in texts]
    walked = [value for found in values[:5:2] for value in found]
    assert walked == pytest.approx([one for [one] in alone], abs=1e-5)
    assert values[5:] == [pytest.approx(found, abs=1e-5) for found in values[4::-1]]


def test_a_small_batch_gives_the_same_values(kit: Any, real: str) -> None:
    texts = [kit.step1 + f"\ny = {i}\n<end_of_step>" * (i + 1) for i in range(6)]
    assert kit.scores(f"{real}&batch=64", kit.question, texts) == pytest.approx(
        kit.scores(real, kit.question, texts), abs=1e-5
    )


def test_cancelled_request_leaves_the_model_working(kit: Any, spec: str) -> None:
    async def use(reward: Any) -> None:
        tasks = [asyncio.create_task(reward.score(kit.question + str(i), kit.texts * 4)) for i in range(6)]
        await asyncio.sleep(0)
        for task in tasks[:5]:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(ends[5]) == 12
        assert len(await reward.score(kit.question, kit.texts)) == 3

    kit.use(spec, use)


def test_description_is_plain_and_names_the_weights(kit: Any, spec: str) -> None:
    async def use(reward: Any) -> None:
        described = dict(reward.describe())
        assert json.loads(json.dumps(described)) == described
        assert described["reward"] == spec
        if spec != "scripted":
            assert len(described["sha256"]) == 64
            assert described["engine"] == ("vllm" if "engine=vllm" in spec else "transformers")
            assert described["value"]
        await reward.close()
        await reward.close()

    kit.use(spec, use)


def test_closed_model_refuses(kit: Any, real: str) -> None:
    async def use(reward: Any) -> None:
        await reward.close()
        with pytest.raises(BackendError, match="closed"):
            await reward.score(kit.question, kit.texts)

    kit.use(real, use)


def test_over_long_text_loses_its_beginning_and_the_log_says_so(
    kit: Any, real: str, caplog: pytest.LogCaptureFixture
) -> None:
    tail = "\n# Step 9: the end\nprint(9)\n<end_of_step>"
    one, other = (f"<code>\n{word}" * 60 + "\nx = 1" * 60 + tail for word in ("abc = 1", "xyz = 2"))
    if "rlhflow" in real or "math-shepherd" in real or "qwen" in real or "skywork" in real:
        real += "&aggregate=last"
    with caplog.at_level(logging.WARNING):
        first, second = kit.scores(f"{real}&max_tokens=48", kit.question, [one, other])
    # What differs lies before the last 48 tokens.
    assert first == pytest.approx(second, abs=1e-5)
    assert -1 <= first <= 1
    assert sum("lose their beginning" in record.message for record in caplog.records) == 1
    if "&aggregate" not in real and "bilinear" not in real and "logratio" not in real:
        assert kit.scores(real, kit.question, [one])[0] != pytest.approx(first, abs=1e-5)


def test_a_text_cut_down_to_what_was_printed_has_no_score(kit: Any) -> None:
    text = "<code>\nx = 1\n<end_of_code>\n<output>" + "7 " * 80 + "<end_of_output>"
    assert kit.scores(f"{kit.spec('logratio')}&max_tokens=48", kit.question, [text]) == [0.0]
    assert kit.scores(f"{kit.spec('ppm')}&max_tokens=48", kit.question, [text]) != [0.0]


def test_a_number_that_is_none_is_an_error(kit: Any, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(kit.models("ppm"), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["score.weight"] = torch.full_like(tensors["score.weight"], float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="NaN"):
        kit.scores(f"ppm:{folder}?device=cpu", kit.question, kit.texts)


@pytest.mark.vllm
@pytest.mark.parametrize("kind", ["ppm-vllm", "qwen-vllm", "rlhflow-vllm"])
def test_vllm_gives_the_values_of_transformers(kit: Any, kind: str) -> None:
    spec = kit.spec(kind)
    other = spec.replace("engine=vllm&kv_gib=0.25", "engine=hf&device=cpu&dtype=float32")
    texts = [*kit.texts, *(kit.step1 + f"\ny = {i}\n<end_of_step>" * (i + 1) for i in range(6))]
    assert kit.scores(spec, kit.question, texts) == pytest.approx(kit.scores(other, kit.question, texts), abs=1e-4)
