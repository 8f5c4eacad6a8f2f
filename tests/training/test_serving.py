"""What the trainers save is what the search loads: scores agree, and a policy writes with it."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from rstar_eval.training.config import TrainConfig
from rstar_eval.training.rows import OutcomeRow, PairRow, Provenance, Row, SftRow, ValueRow

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

QUESTION = "q3 <output> a <end_of_output> <output>"
"""A question may hold the marks; what it holds is not printed by a solution."""
PRINTED = "\n<end_of_code>\n<output>a b<end_of_output>"
PROMPT = "<|user|>:\n{}\n<|assistant|>: Let's think step by step and solve the problem with code."
FIRST, GOOD, BAD = "<code>\ny = 1\n<end_of_step>", "\nx = a\n<end_of_step>", "\nx = b\n<end_of_step>"
QUICK = TrainConfig(epochs=4, learning_rate=1e-2, batch_tokens=1500, max_length=500)


def rows_of(kind: str) -> list[Row]:
    found: list[Row] = []
    for number in range(8):
        source, prompt = Provenance(problem=f"{number:016x}"), PROMPT.format(f"q{number}")
        if kind == "ppm":
            found.append(PairRow(prompt + FIRST, GOOD, BAD, source=source))
        elif kind == "pqm":
            found += [
                ValueRow(prompt + FIRST, GOOD, 0.8, source=source),
                ValueRow(prompt + FIRST, BAD, -0.6, source=source),
            ]
        else:
            found += [OutcomeRow(prompt, FIRST + GOOD, True, source), OutcomeRow(prompt, FIRST + BAD, False, source)]
    return found


@pytest.mark.parametrize(
    ("kind", "head", "scale"),
    [
        ("ppm", "last_token", 5.0),
        ("ppm", "token_bilinear", 2.0),
        ("pqm", "token_bilinear", 2.0),
        ("ppm", "token_logratio", 2.0),
        ("pqm", "token_logratio", 2.0),
        ("orm", "last_token", 2.0),
    ],
)
def test_the_search_sees_the_scores_that_were_trained(
    base: Path, tmp_path: Path, kind, head: str, scale: float
) -> None:
    from dataclasses import replace

    from rstar_eval.solver.reward import make_reward
    from rstar_eval.training.batches import collate
    from rstar_eval.training.encode import encode
    from rstar_eval.training.models import load_tokenizer, score_texts
    from rstar_eval.training.train import train

    config = replace(QUICK, head=head)
    train(kind, rows_of(kind), base, tmp_path / "m", config)
    model = _trained(tmp_path / "m", head)
    tokenizer = load_tokenizer(tmp_path / "m")
    texts = [FIRST, FIRST + GOOD, FIRST + BAD, FIRST + GOOD + PRINTED, FIRST + GOOD + PRINTED + "\nx = b"]
    rows = [OutcomeRow(PROMPT.format(QUESTION), text, True) for text in texts]
    examples = encode(rows, tokenizer, 999, judge_outputs=head != "token_logratio").examples
    with torch.no_grad():
        scores = score_texts(model, collate(examples, 1), config).tolist()
        if head == "token_logratio":
            pair = [PairRow(rows[0].prompt + texts[3], "\nx = b", "\nx = a")]
            [one] = encode(pair, tokenizer, 999, judge_outputs=False).examples
            chosen, _ = score_texts(model, collate([one], 1), config).tolist()
            assert chosen == pytest.approx(scores[4] - scores[3], abs=1e-5), "what was printed before does not count"
            assert not one.texts[0].printed & set(range(one.texts[0].start, one.length))

    async def served() -> list[float]:
        reward = await make_reward(f"{kind}:{tmp_path / 'm'}?device=cpu&dtype=float32")
        try:
            return await reward.score(QUESTION, texts)
        finally:
            await reward.close()

    values = asyncio.run(served())
    assert values == pytest.approx([math.tanh(score / scale) for score in scores], abs=1e-5)
    assert values[1] > values[2]
    if kind == "pqm":
        assert values[1] > 0 > values[2], "near the values that were regressed on"


def _trained(folder: Path, head: str):
    import transformers

    if head == "last_token":
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    causal = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if head == "token_logratio":
        from rstar_eval.solver.reward.logratio import logratio_model

        reference = transformers.AutoModelForCausalLM.from_pretrained(folder / "reference", dtype=torch.float32)
        return logratio_model(causal, reference).eval()
    from rstar_eval.solver.reward.bilinear import bilinear_model, load_head

    model = bilinear_model(causal)
    model.bilinear.data = load_head(folder, 16)
    return model.eval()


def test_a_policy_writes_what_it_was_taught(base: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from rstar_eval.solver.backends import make_policy
    from rstar_eval.solver.types import SampleRequest
    from rstar_eval.training.train import train

    rows = [SftRow("a", "<code>\nx\n<end_of_step>", source=Provenance(problem=f"{n:016x}")) for n in range(8)]
    train("sft", rows, base, tmp_path / "m", replace(QUICK, epochs=60, learning_rate=2e-2))

    async def write() -> str:
        policy = await make_policy(f"hf:{tmp_path / 'm'}?format=rstar&device=cpu&threads=1")
        try:
            result = await policy.sample(SampleRequest("a", "", 1, 0, temperature=0.0, max_tokens=20))
        finally:
            await policy.close()
        one = result.completions[0]
        return one.text + (one.stop or "")

    assert asyncio.run(write()) == "<code>\nx\n<end_of_step>"
