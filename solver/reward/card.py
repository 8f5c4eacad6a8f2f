"""The card of a reward checkpoint: what its outputs mean. Written by the trainers, read at inference.

`reward.json` beside the weights. One place holds the text that a reward model judges and the map from its output to a
value, so that training and inference can't differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rstar_eval.errors import UserError
from rstar_eval.solver.formats.rstar import printed, prompt_text

CARD = "reward.json"
SCHEMA = 1

Kind = Literal["ppm", "orm", "pqm"]
HeadForm = Literal["last_token", "token_bilinear", "token_logratio"]

SCALE: Mapping[str, float] = {"ppm": 5.0, "orm": 2.0, "pqm": 1.0}
"""A checkpoint's scalar output v, which may be any number, becomes the value tanh(v / SCALE[kind]) in (-1, 1).

ppm: 5 (the authors' head). orm: 2, because tanh(v / 2) = 2 sigmoid(v) - 1 for the log-odds v of being right that
binary cross-entropy trains. pqm: 1: the value itself is regressed on q in [-1, 1], by the squared error of tanh(v).
"""

LAYOUTS: Mapping[str, Callable[[str, str], str]] = {"rstar": prompt_text}
"""Name of a text layout to the function that makes the judged text of a question and a solution prefix. `rstar` is that
of the authors' reward data: `<|user|>:`, the question, `<|assistant|>: Let's think step by step ...`, the prefix."""


@dataclass(frozen=True, slots=True)
class RewardCard:
    """What a reward checkpoint is: its kind (which scale), the form of its head, and the layout of its text.

    head: `last_token` is the paper's (sequence classification, one output, read at the last token); `token_bilinear`
    is reward/bilinear.py's; `token_logratio` is reward/logratio.py's, with its `beta` (which the others ignore).
    """

    kind: Kind = "ppm"
    head: HeadForm = "last_token"
    layout: str = "rstar"
    beta: float = 1.0


def judged_text(question: str, prefix: str, layout: str = "rstar") -> str:
    """Return the text that a reward model judges. UserError for an unknown layout."""
    if layout not in LAYOUTS:
        raise UserError(f"unknown text layout {layout!r} of a reward model", f"known: {', '.join(sorted(LAYOUTS))}")
    return LAYOUTS[layout](question, prefix)


def judged_tokens(tokenizer: Any, question: str, prefix: str, layout: str = "rstar") -> list[int]:
    """Return the tokens of the text that a reward model judges: the whole text at once, with the tokenizer's own
    beginning-of-text token if it has one. Training and inference both call this."""
    return judged_together(tokenizer, question, [prefix], layout)[0]


def judged_together(tokenizer: Any, question: str, prefixes: Sequence[str], layout: str = "rstar") -> list[list[int]]:
    """Return `judged_tokens` of each of several solution prefixes, in one call of the tokenizer, which costs less."""
    encoded = tokenizer([judged_text(question, prefix, layout) for prefix in prefixes])["input_ids"] if prefixes else []
    return [[int(token) for token in tokens] for tokens in encoded]


def judged_solution(
    tokenizer: Any, question: str, prefix: str, layout: str = "rstar", skip: int = 0, *, outputs: bool = True
) -> list[int]:
    """Return the places in `judged_tokens` of the solution's tokens, from character `skip` of `prefix` on; with
    `outputs` false without those of printed outputs.

    A token that lies across the border belongs to the solution. Place 0 is never one. UserError for a tokenizer that
    can't tell where its tokens are.
    """
    if not tokenizer.is_fast:
        raise UserError("the tokenizer gives no places of its tokens", "save it as tokenizer.json")
    text = judged_text(question, prefix, layout)
    border = len(text) - len(prefix) + skip
    spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    left_out = set() if outputs else printed(text, spans, len(text) - len(prefix))
    return [place for place, (_, end) in enumerate(spans) if end > border and place and place not in left_out]


def value_of(kind: Kind, output: float) -> float:
    """Return the value in [-1, 1] of a checkpoint's scalar output (last_token heads).

    >>> value_of("orm", 0.0), round(value_of("ppm", 5.0), 4)
    (0.0, 0.7616)
    """
    return math.tanh(output / SCALE[kind])


def write_card(folder: Path, card: RewardCard) -> None:
    """Write the card of the checkpoint in `folder`."""
    (folder / CARD).write_text(json.dumps({"schema": SCHEMA, **asdict(card)}, indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> RewardCard | None:
    """Return the card of the checkpoint in `folder`, None if it has none. UserError for one that can't be read."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        beta = float(data.get("beta", 1.0))
        card = RewardCard(str(data["kind"]), str(data["head"]), str(data["layout"]), beta)  # type: ignore[arg-type]
        schema = data["schema"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{str(path)!r} is no card of a reward model ({error})", "save the model again") from None
    known = card.kind in SCALE and card.head in get_args(HeadForm) and card.layout in LAYOUTS and 0 < beta < math.inf
    if schema != SCHEMA or not known:
        raise UserError(f"{str(path)!r} holds values that this version does not know: {data}", "save the model again")
    return card
