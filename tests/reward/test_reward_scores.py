"""Scores against an independent computation: plain transformers classes, prompts written out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT = "<|user|>:\n{}\n<|assistant|>: Let's think step by step and solve the problem with code."
STEPS = ["# Step 1: add\nx = 3 + 4", "# Step 2: show\nprint(x)\nOutput: 7", "The answer is \\boxed{7}."]


def loaded(kit: Any, kind: str, model_class: Any = None) -> tuple[Any, Any]:
    folder = kit.models(kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    chosen = model_class or transformers.AutoModelForCausalLM
    return tokenizer, chosen.from_pretrained(folder, dtype=torch.float32).eval()


def last_hidden(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]


@pytest.mark.parametrize(("kind", "scale"), [("ppm", 5), ("orm", 2), ("pqm", 1)])
def test_last_token_head_is_sequence_classification(kit: Any, kind: str, scale: float) -> None:
    tokenizer, model = loaded(kit, kind, transformers.Qwen2ForSequenceClassification)
    expected = []
    for text in kit.texts:
        ids = tokenizer(PROMPT.format(kit.question) + text)["input_ids"]
        with torch.no_grad():
            expected.append(math.tanh(float(model(torch.tensor([ids])).logits[0, 0]) / scale))
    assert kit.scores(kit.spec(kind), kit.question, kit.texts) == pytest.approx(expected, abs=1e-5)


def test_authors_format_and_its_conversion(kit: Any, tmp_path: Path) -> None:
    from rstar_eval.solver.reward.convert import convert_ppm

    tokenizer, model = loaded(kit, "official")
    head = torch.load(kit.models("official") / "value_head.bin", weights_only=True)
    expected = []
    for text in kit.texts:
        state = last_hidden(model, tokenizer(PROMPT.format(kit.question) + text)["input_ids"])[-1]
        value = torch.nn.functional.linear(state, head["v_head.summary.weight"], head["v_head.summary.bias"])
        expected.append(math.tanh(float(value[0]) / 5))
    assert kit.scores(kit.spec("official"), kit.question, kit.texts) == pytest.approx(expected, abs=1e-5)
    folder = convert_ppm(kit.models("official"), tmp_path / "ours")
    assert kit.scores(f"ppm:{folder}?device=cpu", kit.question, kit.texts) == pytest.approx(expected, abs=1e-5)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = tokenizer(PROMPT.format(kit.question) + kit.texts[0])["input_ids"]
    with torch.no_grad():
        logit = float(plain(torch.tensor([ids])).logits[0, 0]) + float(head["v_head.summary.bias"][0])
    assert math.tanh(logit / 5) == pytest.approx(expected[0], abs=1e-5)
    assert not list(folder.glob("*.bin"))


def test_qwen_prm(kit: Any) -> None:
    from safetensors.torch import load_file

    folder = kit.models("qwen")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    config = transformers.Qwen2Config.from_pretrained(folder)
    body = transformers.Qwen2Model(config).eval()
    body.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    text = (
        "<|begin|><|head|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|end|>"
        f"<|head|>user\n{kit.question}<|end|><|head|>assistant\n" + "".join(s + "<extra_0>" for s in STEPS) + "<|end|>"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = body(torch.tensor([ids])).last_hidden_state[0]
        inner = torch.relu(hidden @ tensors["score.0.weight"].T + tensors["score.0.bias"])
        probabilities = (inner @ tensors["score.2.weight"].T + tensors["score.2.bias"]).softmax(-1)[:, 1]
    mark = tokenizer.convert_tokens_to_ids("<extra_0>")
    steps = [float(probabilities[i]) for i, token in enumerate(ids) if token == mark]
    assert len(steps) == 3
    check_aggregates(kit, "qwen", steps)


def test_math_shepherd(kit: Any) -> None:
    tokenizer, model = loaded(kit, "math-shepherd")
    good, bad = tokenizer("+ -", add_special_tokens=False)["input_ids"]
    mark = tokenizer("ки", add_special_tokens=False)["input_ids"][-1]
    text = f"{kit.question} Step 1: {STEPS[0]} ки\nStep 2: {STEPS[1]} ки\nStep 3: {STEPS[2]} ки"
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        probabilities = model(torch.tensor([ids])).logits[0][:, [good, bad]].softmax(-1)[:, 0]
    steps = [float(probabilities[i]) for i, token in enumerate(ids) if token == mark]
    assert len(steps) == 3
    check_aggregates(kit, "math-shepherd", steps)


def test_skywork(kit: Any) -> None:
    from safetensors.torch import load_file

    tokenizer, model = loaded(kit, "skywork")
    tensors = load_file(kit.models("skywork") / "model.safetensors")
    ids = tokenizer("<|begin|>" + kit.question + "\n", add_special_tokens=False)["input_ids"]
    line = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    ends = []
    for step in STEPS:
        ids = [*ids, *tokenizer(step, add_special_tokens=False)["input_ids"], line]
        ends.append(len(ids) - 1)
    values = last_hidden(model, ids) @ tensors["v_head.summary.weight"][0] + tensors["v_head.summary.bias"]
    check_aggregates(kit, "skywork", [float(torch.sigmoid(values[end])) for end in ends])


def test_rlhflow(kit: Any) -> None:
    """The probability of + where it stands, turn by turn, each conversation computed by itself."""
    tokenizer, model = loaded(kit, "rlhflow")
    plus, minus = (tokenizer(sign, add_special_tokens=False)["input_ids"][-1] for sign in "+-")
    text, steps = "<|begin|>", []
    for i, step in enumerate(STEPS):
        asked = f"{kit.question} {step}" if i == 0 else step
        text += f"<|head|>user\n{asked}<|end|><|head|>assistant\n"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            steps.append(float(model(torch.tensor([ids])).logits[0, -1][[plus, minus]].softmax(-1)[0]))
        text += "+<|end|>"
    check_aggregates(kit, "rlhflow", steps)


def check_aggregates(kit: Any, kind: str, steps: list[float]) -> None:
    expected = {"min": min(steps), "product": math.prod(steps), "last": steps[-1], "mean": sum(steps) / len(steps)}
    assert len(set(expected.values())) >= 3
    for how, probability in expected.items():
        [value] = kit.scores(f"{kit.spec(kind)}&aggregate={how}", kit.question, kit.texts[-1:])
        assert value == pytest.approx(2 * probability - 1, abs=2e-5), how


def test_bilinear_head(kit: Any) -> None:
    from safetensors.torch import load_file

    tokenizer, model = loaded(kit, "bilinear")
    matrix = load_file(kit.models("bilinear") / "bilinear.safetensors")["bilinear"]
    table = model.get_input_embeddings().weight.detach()
    whole, last = [], []
    for text in kit.texts:
        prompt = PROMPT.format(kit.question)
        ids = tokenizer(prompt + text)["input_ids"]
        start = len(tokenizer(prompt)["input_ids"])
        assert ids[:start] == tokenizer(prompt)["input_ids"]
        hidden = last_hidden(model, ids)
        rewards = [float((matrix @ hidden[t - 1]) @ table[ids[t]]) for t in range(start, len(ids))]
        whole.append(math.tanh(sum(rewards) / 2 / 2))
        step = {0: kit.texts[0], 1: kit.texts[1][len(kit.texts[0]) :], 2: kit.texts[2][len(kit.texts[1]) :]}
        own = len(tokenizer(step[len(last)])["input_ids"])
        last.append(math.tanh(sum(rewards[-own:]) / 2 / 2))
    assert kit.scores(kit.spec("bilinear"), kit.question, kit.texts) == pytest.approx(whole, abs=1e-5)
    assert kit.scores(kit.spec("bilinear") + "&aggregate=last", kit.question, kit.texts) == pytest.approx(
        last, abs=1e-5
    )
    assert kit.scores(kit.spec("bilinear"), kit.question, [""]) == [0.0]


def test_bilinear_module_that_is_trained_gives_the_same_scores(kit: Any) -> None:
    from rstar_eval.solver.reward.bilinear import bilinear_model, load_head, score_of
    from rstar_eval.solver.reward.card import judged_solution, judged_tokens

    tokenizer, causal = loaded(kit, "bilinear")
    module = bilinear_model(causal)
    module.bilinear.data = load_head(kit.models("bilinear"), 32)
    ids = [judged_tokens(tokenizer, kit.question, text) for text in kit.texts]
    longest = max(map(len, ids))
    padded = torch.tensor([one + [0] * (longest - len(one)) for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    solution = torch.zeros_like(mask)
    for row, text in enumerate(kit.texts):
        solution[row, judged_solution(tokenizer, kit.question, text)] = 1
    with torch.no_grad():
        values = torch.tanh(score_of(module(padded, mask), solution) / 2).tolist()
    assert kit.scores(kit.spec("bilinear"), kit.question, kit.texts) == pytest.approx(values, abs=1e-5)
    assert module.bilinear.requires_grad


@pytest.mark.parametrize("shared", [True, False])
def test_logratio_head(kit: Any, shared: bool) -> None:
    """Tokens of printed outputs do not count; texts that share a beginning give what each gives alone."""
    from rstar_eval.solver.reward.card import judged_text

    tokenizer, model = loaded(kit, "logratio")
    reference = transformers.AutoModelForCausalLM.from_pretrained(kit.models("logratio") / "reference").eval()
    output = "<output>7<end_of_output>"
    texts = [*kit.texts, kit.texts[0] + "\n" + output + "x = 1"]
    expected = []
    for text in texts:
        ids = tokenizer(judged_text(kit.question, text))["input_ids"]
        start = len(tokenizer(judged_text(kit.question, ""))["input_ids"])
        logs = [logprobs(one, ids) for one in (model, reference)]
        rewards = [mine - theirs for mine, theirs in zip(*logs, strict=True)]
        judged = set(range(start, len(ids)))
        if output in text:
            head = len(tokenizer(judged_text(kit.question, text[: text.index(output)]))["input_ids"])
            judged -= set(range(head, head + len(tokenizer(output)["input_ids"])))
        expected.append(math.tanh(0.05 * sum(rewards[at] for at in judged) / 2))
    assert len({round(value, 4) for value in expected}) == len(texts)
    asked = [texts] if shared else [[text] for text in texts]
    found = [value for part in asked for value in kit.scores(kit.spec("logratio"), kit.question, part)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert kit.scores(kit.spec("logratio"), kit.question, [""]) == [0.0]


def logprobs(model: Any, ids: list[int]) -> list[float]:
    """Return log p of each token (0 for the first), one at a time."""
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [0.0, *(float(logs[at - 1, ids[at]]) for at in range(1, len(ids)))]
