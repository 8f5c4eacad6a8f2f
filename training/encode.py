"""Rows as tokens, once, before training: what a model reads, and which of its tokens are learned or judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.formats.rstar import printed, prompt_text
from rstar_eval.training.rows import OutcomeRow, PairRow, Row, SftRow, ValueRow

IGNORED = -100
"""Label of a token that is read but not learned (transformers' convention)."""

_AT_ONCE = 1024
"""Rows whose texts are cut into tokens together."""


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of one text, and where the part begins that is learned or judged (0-based); `printed`: places of
    printed outputs that are not judged, wherever they are."""

    tokens: tuple[int, ...]
    start: int
    labels: tuple[int, ...] = ()
    printed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Example:
    """One row as tokens. texts: the response (sft), chosen and rejected (pairs), or the judged text. target: what a
    judged text is worth; weight: the row's share of the loss. row: its place among the rows that were given."""

    texts: tuple[Text, ...]
    target: float = 0.0
    weight: float = 1.0
    row: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest text."""
        return max(len(text.tokens) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Examples in the order of their rows; too_long: how many rows were left out for their length."""

    examples: list[Example]
    too_long: int


def encode(
    rows: Sequence[Row], tokenizer: Any, max_length: int, *, learn_outputs: bool = True, judge_outputs: bool = True
) -> Encoded:
    """Return the rows as tokens; rows with more than `max_length` tokens are left out and counted.

    A policy's prompt and response are cut into tokens apart, as at inference, and the response gets the tokenizer's
    end-of-text token; a reward model's text is cut as a whole. learn_outputs: whether printed outputs, which the
    sandbox writes at inference, are learned too (as in the authors' code); judge_outputs: whether a reward model's
    score is summed over them too. UserError if no row is short enough, or the tokenizer lacks an end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer in {tokenizer.name_or_path!r} has no end-of-text token", "give it an eos_token")
    pieces = _pieces(rows, tokenizer)
    examples = []
    for place, row in enumerate(rows):
        if isinstance(row, SftRow):
            one = _sft(next(pieces), next(pieces), tokenizer.eos_token_id, place, row.response, learn_outputs)
        elif isinstance(row, PairRow):
            sides = tuple(_judged(next(pieces), row.prompt, text, judge_outputs) for text in _texts(row))
            one = Example(sides, 1.0, row.weight, place)
        else:
            target = row.q if isinstance(row, ValueRow) else float(row.right)
            (text,) = _texts(row)
            one = Example((_judged(next(pieces), _asked(row.prompt), text, judge_outputs),), target, 1.0, place)
        examples.append(one)
    kept = [one for one in examples if one.length <= max_length]
    if not kept:
        raise UserError(
            f"all {len(rows)} rows have more than {max_length} tokens", "raise max_length, or give shorter rows"
        )
    return Encoded(kept, len(examples) - len(kept))


@dataclass(frozen=True, slots=True)
class _Piece:
    ids: list[int]
    offsets: list[tuple[int, int]]


def _texts(row: Row) -> tuple[str, ...]:
    if isinstance(row, SftRow):
        return prompt_text(row.question), row.response
    if isinstance(row, PairRow):
        return row.prompt + row.pos, row.prompt + row.neg
    return (row.prompt + (row.response if isinstance(row, OutcomeRow) else row.step),)


def _pieces(rows: Sequence[Row], tokenizer: Any) -> Iterator[_Piece]:
    """Yield the rows' texts as tokens. Some at a time: with their places they take many times what is kept of them."""
    for first in range(0, len(rows), _AT_ONCE):
        yield from _tokens([text for row in rows[first : first + _AT_ONCE] for text in _texts(row)], tokenizer)


def _tokens(texts: Sequence[str], tokenizer: Any) -> list[_Piece]:
    """Cut texts into tokens with their places. Lone surrogates, which no tokenizer takes, become question marks."""
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    if not clean:
        return []
    found = tokenizer(clean, return_offsets_mapping=True)
    return [_Piece(*pair) for pair in zip(found["input_ids"], found["offset_mapping"], strict=True)]


def _sft(prompt: _Piece, response: _Piece, eos: int, place: int, text: str, learn_outputs: bool) -> Example:
    ids = response.ids if response.ids[-1:] == [eos] else [*response.ids, eos]
    labels = list(ids)
    if not learn_outputs:
        for at in printed(text, response.offsets):
            labels[at] = IGNORED
    start = len(prompt.ids)
    whole = Text((*prompt.ids, *ids), start, (*[IGNORED] * start, *labels))
    return Example((whole,), row=place)


def _asked(prompt: str) -> str:
    """Return the prompt up to where the solution begins: a value is of all that is written so far, not of one step."""
    opening = prompt_text("").removeprefix("<|user|>:\n")
    at = prompt.find(opening)
    return prompt if at < 0 else prompt[: at + len(opening)]


def _judged(piece: _Piece, prompt: str, text: str, outputs: bool) -> Text:
    """Return a judged text; it starts at the first token that reaches beyond the prompt."""
    left_out = set() if outputs else printed(text, piece.offsets, len(_asked(prompt)))
    start = next((at for at, (_, end) in enumerate(piece.offsets) if end > len(prompt)), len(piece.ids) - 1)
    return Text(tuple(piece.ids), start, printed=frozenset(left_out))
