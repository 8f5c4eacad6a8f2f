"""What is particular to the transformers backend: batching, stop strings, characters spread over tokens."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.solver.backends import hf_batch
from rstar_eval.solver.backends.engine import Sampling, cut_at_stop
from rstar_eval.solver.backends.hf import HFEngine, load
from rstar_eval.solver.backends.hf_text import TextStream, pieces_of
from rstar_eval.solver.backends.spec import parse_policy_spec
from rstar_eval.solver.types import Prompt, SampleResult


def decode_bytes(ids: Any) -> str:
    return bytes(ids).decode(errors="replace")


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_text_stream_of_bytes_is_the_text_cut_at_its_first_stop(text: str, stops: list[str]) -> None:
    text = text.replace("\ufffd", "")
    stops = [stop for stop in stops if "\ufffd" not in stop]
    stream = TextStream(decode_bytes, b"prompt", stops)
    done = any(stream.push(byte) for byte in text.encode())
    assert done == (stream.stop is not None)
    if cut_at_stop(text, stops)[1] is None:
        assert (stream.text, stream.stop) == (text, None)
    else:
        # Byte by byte, a stop string is seen when it is complete: the first to end, not always the first to begin.
        assert stream.stop in stops
        assert text.startswith(stream.text + stream.stop)
        assert not any(stop in stream.text for stop in stops)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tiny_model)


@given(st.lists(st.integers(0, 319), max_size=12))
@settings(max_examples=200, deadline=None)
def test_tokens_decoded_one_by_one_are_the_text_of_all(tokenizer: Any, ids: list[int]) -> None:
    pieces = pieces_of(tokenizer)
    assert pieces is not None
    stream = TextStream(decode_bytes, [], (), pieces)
    for token in ids:
        stream.push(token)
    stream.finish()
    assert (stream.text, stream.tokens) == (tokenizer.decode(ids, clean_up_tokenization_spaces=False), len(ids))


def test_incomplete_character_at_the_end_is_given_out_once() -> None:
    stream = TextStream(decode_bytes, b"p", ())
    for byte in "é".encode()[:1]:
        stream.push(byte)
    assert stream.text == ""
    stream.finish()
    assert (stream.text, stream.tokens) == ("\ufffd", 1)


def test_log_probability_is_that_of_the_tokens_at_temperature_one(tiny_model: Path) -> None:
    torch = pytest.importorskip("torch")
    import torch.nn.functional as functional

    taken: list[list[int]] = []

    async def go() -> tuple[Any, SampleResult, SampleResult]:
        engine, _ = load(parse_policy_spec(f"hf:{tiny_model}?threads=1&dtype=float32"))
        original = hf_batch.Row.take

        def spy(row: Any, token: int, eos: Any) -> Any:
            if row.index == len(taken):
                taken.append([])
            taken[row.index].append(token)
            return original(row, token, eos)

        hf_batch.Row.take = spy  # type: ignore[method-assign]
        sampling = Sampling(n=3, seed=5, temperature=0.6, top_p=0.8, max_tokens=12, stops=(), logprobs=True)
        try:
            asked = await engine.generate(Prompt(raw="x = 1"), sampling)
            model, prompt = engine._decoder._model, engine._tokenizer("x = 1")["input_ids"]
            values = []
            for tokens in taken:
                with torch.inference_mode():
                    logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
                values.append(float(functional.log_softmax(logits, -1)[range(len(tokens)), tokens].sum()))
            return values, asked, await engine.generate(Prompt(raw="x = 1"), replace(sampling, logprobs=False))
        finally:
            hf_batch.Row.take = original  # type: ignore[method-assign]
            await engine.close()

    values, asked, plain = asyncio.run(go())
    assert [one.logprob for one in asked.completions] == pytest.approx(values, abs=1e-4)
    assert [one.logprob_tokens for one in asked.completions] == [one.tokens for one in asked.completions]
    assert [one.text for one in asked.completions] == [one.text for one in plain.completions]


@pytest.fixture(scope="module")
def generated(tiny_model: Path) -> Any:
    """Run `use(engine)` on the tiny model."""

    def go(use: Any, options: str = "") -> Any:
        async def inner() -> Any:
            engine, _ = load(parse_policy_spec(f"hf:{tiny_model}?threads=1{options}"))
            try:
                return await use(engine)
            finally:
                await engine.close()

        return asyncio.run(inner())

    return go


def plain(n: int = 4, seed: int = 5, tokens: int = 40, stops: tuple[str, ...] = ()) -> Sampling:
    return Sampling(n, seed, 1.0, 1.0, tokens, stops)


def test_stop_strings_cut_the_same_samples(generated: Any) -> None:
    """With stop strings, each completion is the one without them, cut where the first stop string begins."""

    async def use(engine: HFEngine) -> None:
        prompt = Prompt(raw="# Step 1:")
        free = await engine.generate(prompt, plain())
        stops = tuple({completion.text[7:9] for completion in free.completions})
        cut = await engine.generate(prompt, plain(stops=stops))
        assert any(completion.finish == "stop" for completion in cut.completions)
        for before, after in zip(free.completions, cut.completions, strict=True):
            if after.finish == "stop":
                assert after.stop in stops
                assert before.text.startswith(after.text + str(after.stop))
                assert after.tokens <= before.tokens
            else:
                assert after == before

    generated(use)


def test_samples_equal_those_of_the_library(generated: Any, tiny_model: Path) -> None:
    """Greedy completions are those of transformers' own generate, for prompts of unequal length in one batch."""
    import torch
    import transformers

    prompts = ["# Step", "The answer is \\boxed{", "x = 1 + 2\nprint(x)\n```\n" * 3, "日本"]

    async def use(engine: HFEngine) -> list[SampleResult]:
        greedy = Sampling(2, 0, 0.0, 1.0, 24, ())
        return list(await asyncio.gather(*(engine.generate(Prompt(raw=p), greedy) for p in prompts)))

    results = generated(use)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    for prompt, result in zip(prompts, results, strict=True):
        encoded = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**encoded, max_new_tokens=24, do_sample=False)[0, encoded["input_ids"].shape[1] :]
        ids = [token for token in out.tolist() if token != tokenizer.eos_token_id]
        assert result.completions[0].tokens == len(out)
        assert result.completions[0].text == tokenizer.decode(ids)


def test_more_samples_than_rows_and_a_shared_beginning_change_nothing(generated: Any) -> None:
    async def use(engine: HFEngine) -> SampleResult:
        return await engine.generate(Prompt(raw="print(x) and more"), plain(n=7))

    async def warmed(engine: HFEngine) -> SampleResult:
        await engine.warm([Prompt(raw="print(x) one"), Prompt(raw="print(x) two")])
        return await use(engine)

    wide = generated(use)
    assert generated(use, "&parallel=3") == wide
    assert generated(warmed) == wide


def test_sampling_follows_the_distribution() -> None:
    torch = pytest.importorskip("torch")
    from rstar_eval.solver.backends.hf_sample import next_tokens

    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = 2000
    logits = probabilities.log().repeat(draws, 1)
    uniforms = [(i + 0.5) / draws for i in range(draws)]
    full = torch.bincount(torch.tensor(next_tokens(logits, uniforms, [1.0] * draws, [1.0] * draws)), minlength=4)
    assert (full / draws).tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=2e-3)
    nucleus = torch.bincount(torch.tensor(next_tokens(logits, uniforms, [1.0] * draws, [0.75] * draws)), minlength=4)
    assert (nucleus / draws).tolist() == pytest.approx([0.625, 0.375, 0.0, 0.0], abs=2e-3)
    cold = torch.bincount(torch.tensor(next_tokens(logits, uniforms, [0.5] * draws, [1.0] * draws)), minlength=4)
    squares = [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]
    assert (cold / draws).tolist() == pytest.approx(squares, abs=2e-3)


@given(
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    st.floats(0, 1),
    st.integers(0, 3),
    st.sampled_from([0.1, 3.0]),
)
@settings(max_examples=30, deadline=None)
def test_nucleus_larger_than_the_head_equals_a_full_sort(
    uniforms: list[float], top_p: float, seed: int, spread: float
) -> None:
    torch = pytest.importorskip("torch")
    from rstar_eval.solver.backends import hf_sample

    logits = torch.randn((len(uniforms), 1500), generator=torch.Generator().manual_seed(seed)) * spread
    rows = len(uniforms)
    short = hf_sample.next_tokens(logits, uniforms, [1.0] * rows, [top_p] * rows)
    heads, hf_sample.HEADS = hf_sample.HEADS, ()
    try:
        whole = hf_sample.next_tokens(logits, uniforms, [1.0] * rows, [top_p] * rows)
    finally:
        hf_sample.HEADS = heads
    assert short == whole
