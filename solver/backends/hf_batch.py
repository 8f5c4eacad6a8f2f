"""A batch of sequences that are generated together and come and go one by one (continuous batching).

The key-value cache has one row a sequence. Rows of unequal length are padded on the left; a sequence that ends takes
its row with it, and columns that only padding is left in are cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rstar_eval.solver.backends.hf_text import TextStream
from rstar_eval.solver.types import Completion, FinishReason


@dataclass(slots=True)
class Row:
    """One sequence: the place of its completion in its request, its text, its random numbers, its settings, and its
    log-probability so far (None: not asked for)."""

    owner: Any
    index: int
    stream: TextStream
    random: Any
    temperature: float
    top_p: float
    max_tokens: int
    logprob: float | None = None
    last: int = 0

    def take(self, token: int, eos: frozenset[int]) -> Completion | None:
        """Add a token; return the completion if it ends the sequence."""
        finish: FinishReason
        self.last = token
        if token in eos:
            return self._end("eos", self.stream.tokens + 1)
        if self.stream.push(token):
            return self._end("stop", self.stream.tokens)
        if self.stream.tokens >= self.max_tokens:
            finish = "length"
            return self._end(finish, self.stream.tokens)
        return None

    def _end(self, finish: FinishReason, tokens: int) -> Completion:
        if self.stream.finish():
            finish = "stop"
        counted = 0 if self.logprob is None else tokens
        return Completion(self.stream.text, finish, self.stream.stop, tokens, self.logprob, counted)


class Batch:
    """The running sequences and their shared cache. `layers` are (keys, values) of shape rows x heads x columns x
    size; `mask` is 1 where a row has a token (rows x columns)."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.layers: list[tuple[Any, Any]] = []
        self.mask: Any = None

    def join(self, rows: list[Row], layers: list[tuple[Any, Any]]) -> None:
        """Add sequences that have the same prompt; `layers` is that prompt's cache, of one row."""
        import torch
        import torch.nn.functional as functional

        count, length = len(rows), layers[0][0].shape[2]
        fresh = [(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in layers]
        mask = torch.ones((count, length), dtype=torch.long, device=layers[0][0].device)
        if self.rows:
            columns = max(length, self.mask.shape[1])

            def padded(tensor: Any, width: int) -> Any:
                return functional.pad(tensor, (0, 0, columns - width, 0))

            old = self.mask.shape[1]
            fresh = [
                (
                    torch.cat([padded(old_k, old), padded(k, length)]),
                    torch.cat([padded(old_v, old), padded(v, length)]),
                )
                for (old_k, old_v), (k, v) in zip(self.layers, fresh, strict=True)
            ]
            mask = torch.cat(
                [functional.pad(self.mask, (columns - old, 0)), functional.pad(mask, (columns - length, 0))]
            )
        self.layers, self.mask = fresh, mask
        self.rows += rows

    def keep(self, places: list[int]) -> None:
        """Keep only the rows at `places`, and only columns in which one of them has a token."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if not places:
            self.layers, self.mask = [], None
            return
        import torch

        index = torch.tensor(places, device=self.mask.device)
        mask = self.mask.index_select(0, index)
        first = int(mask.any(0).nonzero()[0])
        self.mask = mask[:, first:]
        self.layers = [
            (k.index_select(0, index)[:, :, first:], v.index_select(0, index)[:, :, first:]) for k, v in self.layers
        ]
