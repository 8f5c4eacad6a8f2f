"""Adapters of public process reward models: their prompt, their step mark, and the probability that a step is right.

Formats were taken from the models' cards and their authors' own scripts (docs/reward-models.md names them). Text from
outside (the question, model-written steps) can't forge a mark: marks in it are broken up before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError, nearest
from rstar_eval.solver.reward.engines import Head, ScoreInput
from rstar_eval.solver.reward.spec import RewardSpec
from rstar_eval.solver.reward.steps import solution_steps

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN_MARK = "<extra_0>"
SHEPHERD_MARK = "ки"
GOOD, BAD = "+", "-"

Encode = Callable[[Any, str, Sequence[str]], tuple[list[int], list[int]]]
"""Maps a tokenizer, a question and steps to the tokens and, in order, the place at which each step is judged."""


@dataclass(frozen=True, slots=True)
class PublicPRM:
    """A public process reward model. `probability` maps a step's outputs to the probability that it is right; the
    steps' probabilities are aggregated to one p, and the value is 2p - 1."""

    kind: str
    tokenizer: Any
    head: Head
    encode: Encode
    probability: Callable[[Sequence[float]], float]
    aggregate: str

    def inputs(self, question: str, texts: Sequence[str]) -> list[ScoreInput]:
        """Return the model's own prompt of each text, read once a step."""
        inputs = []
        for text in texts:
            steps = solution_steps(text)
            tokens, places = self.encode(self.tokenizer, question, steps)
            if len(places) != len(steps):
                raise UserError(
                    f"the tokenizer of this {self.kind} model marks {len(places)} of {len(steps)} steps",
                    "is kind= right for this checkpoint?",
                )
            inputs.append(ScoreInput(tuple(tokens), tuple(places)))
        return inputs

    def value(self, outputs: Sequence[Sequence[float]]) -> float:
        """Return the value in [-1, 1] of the steps' outputs."""
        return 2 * aggregated([self.probability(step) for step in outputs], self.aggregate) - 1

    def describe(self) -> Mapping[str, object]:
        """Return kind, aggregation and the map to the value."""
        return {"kind": self.kind, "aggregate": self.aggregate, "value": "2 p - 1"}


def aggregated(probabilities: Sequence[float], how: str) -> float:
    """Return the min, product, last or mean of the steps' probabilities.

    >>> aggregated([0.5, 0.8], "product")
    0.4
    """
    if how == "min":
        return min(probabilities)
    if how == "product":
        return math.prod(probabilities)
    if how == "last":
        return probabilities[-1]
    return sum(probabilities) / len(probabilities)


def _second(outputs: Sequence[float]) -> float:
    return _sigmoid(outputs[1] - outputs[0])


def _first(outputs: Sequence[float]) -> float:
    return _sigmoid(outputs[0] - outputs[1])


def _only(outputs: Sequence[float]) -> float:
    return _sigmoid(outputs[0])


def _sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2  # no overflow, whatever x is


def broken(text: str, marks: Sequence[str]) -> str:
    """Return `text` with a blank inside every mark in it."""
    for mark in marks:
        if mark and mark in text:
            text = text.replace(mark, mark[:1] + " " + mark[1:])
    return text


def _marks(tokenizer: Any, *own: str) -> list[str]:
    """Return the texts that the tokenizer turns into one special token, and `own`, the longer first."""
    return sorted({*own, *(str(token) for token in tokenizer.all_special_tokens), *tokenizer.get_added_vocab()},
                  key=len, reverse=True)  # fmt: skip


def _tokens(tokenizer: Any, text: str, **options: Any) -> list[int]:
    return [int(token) for token in tokenizer(text, **options)["input_ids"]]


def _encode_qwen(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    marks = _marks(tokenizer, QWEN_MARK)
    chat = [
        {"role": "system", "content": QWEN_SYSTEM},
        {"role": "user", "content": broken(question, marks)},
        {"role": "assistant", "content": "".join(broken(step, marks) + QWEN_MARK for step in steps)},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False)
    tokens = _tokens(tokenizer, text, add_special_tokens=False)
    mark = tokenizer.convert_tokens_to_ids(QWEN_MARK)
    return tokens, [place for place, token in enumerate(tokens) if token == mark]


def _encode_shepherd(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    marks = _marks(tokenizer, SHEPHERD_MARK)
    lines = [f"Step {i}: {broken(step, marks)} {SHEPHERD_MARK}" for i, step in enumerate(steps, 1)]
    tokens = _tokens(tokenizer, f"{broken(question, marks)} " + "\n".join(lines))
    mark = _tokens(tokenizer, SHEPHERD_MARK, add_special_tokens=False)[-1]
    return tokens, [place for place, token in enumerate(tokens) if token == mark]


def _encode_skywork(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    marks = _marks(tokenizer)
    tokens = _tokens(tokenizer, (tokenizer.bos_token or "") + broken(question, marks) + "\n", add_special_tokens=False)
    line = _tokens(tokenizer, "\n", add_special_tokens=False)[-1]
    places = []
    for step in steps:
        tokens += [*_tokens(tokenizer, broken(step, marks), add_special_tokens=False), line]
        places.append(len(tokens) - 1)
    return tokens, places


def _encode_rlhflow(tokenizer: Any, question: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    marks = _marks(tokenizer)
    chat: list[dict[str, str]] = []
    places = []
    for i, step in enumerate(steps):
        text = broken(step, marks)
        chat.append({"role": "user", "content": f"{broken(question, marks)} {text}" if i == 0 else text})
        asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        places.append(len(_tokens(tokenizer, asked, add_special_tokens=False)) - 1)
        chat.append({"role": "assistant", "content": GOOD})
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False)
    return _tokens(tokenizer, text, add_special_tokens=False), places


def _two_tokens(tokenizer: Any) -> Head:
    pair = tuple(_tokens(tokenizer, text, add_special_tokens=False)[-1] for text in (GOOD, BAD))
    return Head("tokens", 2, pair)


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of public models: how it is encoded, its head, the probability, and the aggregation its authors use."""

    encode: Encode
    head: Callable[[Any], Head]
    probability: Callable[[Sequence[float]], float]
    aggregate: str
    architecture: str = ""


KINDS: Mapping[str, Kind] = {
    "qwen": Kind(_encode_qwen, lambda _: Head("classify", 2), _second, "product", "Qwen2ForProcessRewardModel"),
    "math-shepherd": Kind(_encode_shepherd, _two_tokens, _first, "min"),
    "skywork": Kind(_encode_skywork, lambda _: Head("classify", 1), _only, "last", "Qwen2ForPrmModel"),
    "rlhflow": Kind(_encode_rlhflow, _two_tokens, _first, "mean"),
}


def public_adapter(spec: RewardSpec, path: Path, tokenizer: Any) -> PublicPRM:
    """Return the adapter of the public model in `path`. UserError if its kind is neither given nor recognised, or the
    tokenizer lacks the kind's step mark or chat template."""
    name = spec.string("kind", "") or _recognised(path)
    kind = KINDS[name]
    if name == "qwen" and QWEN_MARK not in tokenizer.get_vocab():
        raise UserError(f"the tokenizer of {str(path)!r} has no token {QWEN_MARK}", "is it a Qwen2.5-Math-PRM?")
    if name in ("qwen", "rlhflow") and not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {str(path)!r} has no chat template, which kind={name} needs")
    return PublicPRM(
        name, tokenizer, kind.head(tokenizer), kind.encode, kind.probability, spec.string("aggregate", kind.aggregate)
    )


def _recognised(path: Path) -> str:
    import json

    try:
        named = json.loads((path / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{str(path / 'config.json')!r} can't be read ({error})", "copy it again") from None
    for name, kind in KINDS.items():
        if kind.architecture and kind.architecture in named:
            return name
    raise UserError(f"the kind of reward model {str(path)!r} can't be told from its config", nearest("", KINDS))
