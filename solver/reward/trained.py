"""Adapters of the checkpoints that are trained here (ppm, orm, pqm), and of the authors' own format (official)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rstar_eval.errors import UserError
from rstar_eval.solver.reward.card import (
    SCALE,
    RewardCard,
    judged_solution,
    judged_together,
    judged_tokens,
    read_card,
    value_of,
)
from rstar_eval.solver.reward.engines import Head, ScoreInput
from rstar_eval.solver.reward.spec import RewardSpec
from rstar_eval.solver.reward.steps import last_step_start


@dataclass(frozen=True, slots=True)
class LastToken:
    """A scalar head on the last token (the paper's, section 3.3)."""

    tokenizer: Any
    card: RewardCard
    head: Head = field(default=Head("classify", 1))

    def inputs(self, question: str, texts: Sequence[str]) -> list[ScoreInput]:
        """Return the tokens of each text, read at the last one."""
        encoded = judged_together(self.tokenizer, question, texts, self.card.layout)
        return [ScoreInput(tuple(tokens), (len(tokens) - 1,)) for tokens in encoded]

    def value(self, outputs: Sequence[Sequence[float]]) -> float:
        """Return tanh(v / scale) of the one output v."""
        return value_of(self.card.kind, outputs[0][0])

    def describe(self) -> Mapping[str, object]:
        """Return the card and the map to the value."""
        card = self.card
        return {
            "kind": card.kind, "head": card.head, "layout": card.layout, "value": f"tanh(v / {SCALE[card.kind]:g})"
        }  # fmt: skip


_HEADS: Mapping[str, Literal["bilinear", "logratio"]] = {"token_bilinear": "bilinear", "token_logratio": "logratio"}


@dataclass(frozen=True, slots=True)
class TokenSum:
    """A head that judges every token: the sum of their rewards, halved (bilinear) or times beta (log ratio, without
    printed outputs), over the whole solution (`sum`) or its last step (`last`)."""

    tokenizer: Any
    card: RewardCard
    head: Head
    aggregate: str = "sum"

    def inputs(self, question: str, texts: Sequence[str]) -> list[ScoreInput]:
        """Return the tokens of each text, read at the solution's tokens (an empty solution: nowhere)."""
        inputs = []
        for text in texts:
            tokens = tuple(judged_tokens(self.tokenizer, question, text, self.card.layout))
            skip = last_step_start(text) if self.aggregate == "last" else 0
            outputs = self.head.kind == "bilinear"
            places = judged_solution(self.tokenizer, question, text, self.card.layout, skip, outputs=outputs)
            inputs.append(ScoreInput(tokens, tuple(places)))
        return inputs

    def value(self, outputs: Sequence[Sequence[float]]) -> float:
        """Return tanh(score / 2); 0 without a token."""
        return math.tanh(self._factor * sum(place[0] for place in outputs) / 2)

    @property
    def _factor(self) -> float:
        return 0.5 if self.head.kind == "bilinear" else self.card.beta

    def describe(self) -> Mapping[str, object]:
        """Return the card and the map to the value."""
        card = self.card
        return {
            "kind": card.kind, "head": card.head, "layout": card.layout, "aggregate": self.aggregate,
            "value": f"tanh(score / 2), score = {self._factor:g} times the sum of the tokens' rewards",
        }  # fmt: skip


def trained_adapter(spec: RewardSpec, path: Path, tokenizer: Any) -> LastToken | TokenSum:
    """Return the adapter of the checkpoint in `path` by its card (a checkpoint without one is read as the paper's
    head). UserError if the card says another kind than the spec, or an option does not fit the head."""
    kind = "ppm" if spec.scheme == "official" else spec.scheme
    card = read_card(path)
    if card is None:
        card = RewardCard(kind)  # type: ignore[arg-type]
    if card.kind != kind:
        raise UserError(f"{str(path)!r} is a reward model of kind {card.kind}, not {kind}", f"write {card.kind}:{path}")
    if card.head != "last_token":
        return TokenSum(tokenizer, card, Head(_HEADS[card.head], 1), spec.string("aggregate", "sum"))
    if "aggregate" in spec.options:
        raise UserError(
            f"option aggregate of {spec.text!r} is for heads that sum over tokens; this checkpoint's is {card.head}",
            "leave it out",
        )
    return LastToken(tokenizer, card)
