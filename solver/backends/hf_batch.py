"""A batch of sequences that are generated together and come and go one by one (continuous batching).

Each sequence has a slot of the key-value cache. The slots in use are always the first ones: when a sequence ends, the
last one moves into its slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rstar_eval.solver.backends.hf_cache import PromptCache, Slots
from rstar_eval.solver.backends.hf_text import TextStream
from rstar_eval.solver.types import Completion, FinishReason


@dataclass(slots=True)
class Row:
    """One sequence: the place of its completion in its request, its text, its random numbers in [0, 1) (one a token),
    its settings, its log-probability so far (None: not asked for), the tokens in its slot, and the last one, which is
    not in it yet."""

    owner: Any
    index: int
    stream: TextStream
    random: Iterator[float]
    temperature: float
    top_p: float
    max_tokens: int
    logprob: float | None = None
    length: int = 0
    last: int = 0

    def take(self, token: int, eos: frozenset[int]) -> Completion | None:
        """Add a token; return the completion if it ends the sequence."""
        self.last = token
        if token in eos:
            return self._end("eos", self.stream.tokens + 1)
        if self.stream.push(token):
            return self._end("stop", self.stream.tokens)
        if self.stream.tokens >= self.max_tokens:
            return self._end("length", self.stream.tokens)
        return None

    def _end(self, finish: FinishReason, tokens: int) -> Completion:
        if self.stream.finish():
            finish = "stop"
        counted = 0 if self.logprob is None else tokens
        return Completion(self.stream.text, finish, self.stream.stop, tokens, self.logprob, counted)


class Batch:
    """The running sequences, at most `most_rows`; `rows[i]` has slot i."""

    def __init__(self, model: Any, most_rows: int) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._slots = Slots(model, most_rows)

    def join(self, rows: list[Row], prompt: PromptCache) -> None:
        """Add sequences that have the same prompt, whose cache is `prompt`."""
        length = prompt[0][0].shape[1]
        for row in rows:
            row.length = length
        self._slots.reserve(len(self.rows) + len(rows), length + 1)
        self._slots.put(len(self.rows), len(rows), prompt)
        self.rows += rows

    def step(self) -> Any:
        """Compute each sequence's last token and return what may follow it (logits, rows x vocabulary)."""
        import torch

        rows, device = self.rows, self._model.device
        tokens = torch.tensor([[row.last] for row in rows], device=device)
        starts = torch.tensor([row.length for row in rows], device=device)
        width = max(row.length for row in rows) + 1
        logits = self._slots.forward(tokens, starts, 1, width)
        for row in rows:
            row.length += 1
        return logits[:, -1]

    def keep(self, places: list[int]) -> None:
        """Keep only the rows at `places` (ascending)."""
        count = len(places)
        if count == len(self.rows):
            return
        holes = sorted(set(range(count)).difference(places))
        movers = [place for place in places if place >= count]
        if movers:
            self._slots.move(movers, holes, max(self.rows[place].length for place in movers))
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        del self.rows[count:]
