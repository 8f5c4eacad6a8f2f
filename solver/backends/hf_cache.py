"""The key-value cache of many sequences of unequal length, written in place.

A *slot* is the room of one sequence: row i of every layer's keys and values (rows x heads x columns x size), the token
at position p in column p. Columns behind a sequence's length hold whatever was there; the mask hides them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from rstar_eval.solver.backends.hf_forward import plain_forward

T = TypeVar("T")

ATTENTION = "rstar_eval_slots"
"""Name under which our attention function is registered with transformers."""
COLUMN_STEP = 16
"""Columns that are looked at are a multiple of this."""

PromptCache = list[tuple[Any, Any]]
"""A prompt's keys and values, a pair a layer, each heads x tokens x size."""


class Slots:
    """Room for at most `most_rows` sequences of one model. Grows when more is needed. own_forward: compute models that
    hf_forward knows there."""

    def __init__(self, model: Any, most_rows: int, *, own_forward: bool = True) -> None:
        self._model = model
        self._most_rows = most_rows
        self._cache, self._layers = _slot_cache(model)
        self._plain = plain_forward(model, _attend) if own_forward else None
        self._rows = 0
        self._columns = 0

    @property
    def plain(self) -> bool:
        """Whether the model is computed by hf_forward instead of transformers' own code."""
        return self._plain is not None

    def forward(self, tokens: Any, starts: Any, keep: Any, width: int) -> Any:
        """Run the model on the next tokens of the first sequences and return logits (rows x kept places x vocabulary).

        tokens: rows x new tokens. starts: how many tokens each row's slot holds. keep: places among the new tokens
        whose logits are returned. width: the columns in use after them, at least the largest start + new tokens.
        """
        import torch

        positions = starts[:, None]
        if tokens.shape[1] > 1:
            positions = positions + torch.arange(tokens.shape[1], device=tokens.device)
        width = rounded(width)
        hidden = torch.arange(width, device=tokens.device) > positions[:, :, None]
        return self._run(tokens, positions, positions, hidden, keep)

    def states(self, tokens: Any, positions: Any, columns: Any, hidden: Any) -> Any:
        """Run a model without a head on new tokens of the first slots and return their last hidden states (rows x new
        tokens x hidden size).

        tokens, positions, columns (each rows x new tokens, or one row for all): the tokens, their positions in their
        sequences, and where in the slots their keys and values are written. hidden (rows x new tokens x columns in
        use): what each token must not see.
        """
        return self._run(tokens, positions, columns, hidden, None)

    def _run(self, tokens: Any, positions: Any, columns: Any, hidden: Any, keep: Any) -> Any:
        """Return the logits at the places `keep`; the hidden states if it is None."""
        import torch

        model, (rows, _, width) = self._model, hidden.shape
        self.reserve(rows, width)
        index = torch.arange(rows, device=tokens.device)[:, None]
        for layer in self._layers:
            layer.place(index, columns, rows, width)
        mask = torch.zeros(hidden.shape, dtype=model.dtype, device=tokens.device)
        mask.masked_fill_(hidden, torch.finfo(model.dtype).min)
        if self._plain is not None:
            states = self._plain(tokens, positions, mask[:, None], self._layers)
            if keep is None:
                return states
            return model.lm_head(states[:, -keep:] if isinstance(keep, int) else states[:, keep])
        output = model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            **({} if keep is None else {"logits_to_keep": keep}),
        )
        return output.last_hidden_state if keep is None else output.logits

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for at least `rows` sequences of `columns` tokens; what is stored stays."""
        if rows <= self._rows and columns <= self._columns:
            return
        # Doubling keeps the number of copies small while sequences grow.
        if rows > self._rows:
            self._rows = max(rows, min(2 * self._rows, self._most_rows))
        if columns > self._columns:
            self._columns = max(columns, 2 * self._columns)
        for layer in self._layers:
            layer.resize(self._rows, self._columns)

    def renew(self, rows: int, columns: int) -> None:
        """Make room for exactly `rows` sequences of `columns` tokens where there is not enough; what is stored is lost.

        Batches of a bounded number of tokens thus need bounded room: not the most rows of one batch times the most
        columns of another.
        """
        if rows <= self._rows and columns <= self._columns:
            return
        self._rows, self._columns = rows, columns
        for layer in self._layers:
            layer.keys_all = layer.values_all = None
            layer.resize(rows, columns)

    def put(self, first: int, count: int, prompt: PromptCache) -> None:
        """Write a prompt's cache into the slots `first` to `first + count - 1`."""
        length = prompt[0][0].shape[1]
        for layer, (keys, values) in zip(self._layers, prompt, strict=True):
            layer.resize(self._rows, self._columns, (keys, values))
            layer.keys_all[first : first + count, :, :length] = keys
            layer.values_all[first : first + count, :, :length] = values

    def get(self, row: int, length: int) -> PromptCache:
        """Return a copy of the first `length` tokens of a slot."""
        return [
            (layer.keys_all[row, :, :length].clone(), layer.values_all[row, :, :length].clone())
            for layer in self._layers
        ]

    def move(self, sources: Sequence[int], targets: Sequence[int], width: int) -> None:
        """Copy the first `width` columns of slots `sources` into slots `targets`, in order."""
        import torch

        for layer in self._layers:
            source = torch.tensor(sources, device=layer.keys_all.device)
            for tensor in (layer.keys_all, layer.values_all):
                tensor[list(targets), :, :width] = tensor[source, :, :width]


def rounded(width: int) -> int:
    """Return `width` rounded up to the columns that are looked at."""
    return -(-width // COLUMN_STEP) * COLUMN_STEP


class Prompts(Generic[T]):
    """What was computed of earlier prompts, by their tokens; the least recently used dropped first. The next step's
    prompt begins with that of this step. `size` tells a value's bytes."""

    def __init__(self, most_bytes: int, size: Callable[[T], int]) -> None:
        self._most = self._left = most_bytes
        self._size = size
        self._entries: OrderedDict[tuple[int, ...], T] = OrderedDict()
        self._lengths: dict[int, int] = {}
        self._pinned: tuple[int, ...] | None = None

    def emptied(self) -> Prompts[T]:
        """Return a store that holds only the pinned prompt."""
        fresh = Prompts(self._most, self._size)
        if self._pinned is not None:
            fresh.add(self._pinned, self._entries[self._pinned], pinned=True)
        return fresh

    def longest(self, prompt: Sequence[int]) -> T | None:
        """Return what is stored for the longest stored beginning of `prompt`, at most all but its last token."""
        for length in sorted(self._lengths, reverse=True):
            if length < len(prompt):
                key = tuple(prompt[:length])
                found = self._entries.get(key)
                if found is not None:
                    self._entries.move_to_end(key)
                    return found
        return None

    def add(self, prompt: Sequence[int], value: T, *, pinned: bool = False) -> None:
        """Store what was computed of a prompt; a pinned one is never dropped (one at a time)."""
        key = tuple(prompt)
        if key in self._entries:
            return
        if pinned:
            self._pinned = key
        self._entries[key] = value
        self._lengths[len(key)] = self._lengths.get(len(key), 0) + 1
        self._left -= self._size(value)
        while self._left < 0 and len(self._entries) > 1:
            oldest = next(entry for entry in self._entries if entry != self._pinned)
            if oldest == key:
                return
            self._left += self._size(self._entries.pop(oldest))
            self._lengths[len(oldest)] -= 1
            if not self._lengths[len(oldest)]:
                del self._lengths[len(oldest)]


def cache_bytes(cache: PromptCache) -> int:
    """Return the bytes that a prompt's cache takes."""
    return sum(keys.nbytes + values.nbytes for keys, values in cache)


def _slot_cache(model: Any) -> tuple[Any, list[Any]]:
    """Return a transformers cache whose layers write into slots, and those layers."""
    import torch
    from transformers import Cache
    from transformers.cache_utils import CacheLayerMixin

    class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
        """One layer's slots. `place` says where the next call writes and what it may look at."""

        keys_all: Any = None
        values_all: Any = None

        def place(self, index: Any, positions: Any, rows: int, width: int) -> None:
            self.index, self.positions, self.rows, self.width = index, positions, rows, width

        def resize(self, rows: int, columns: int, like: tuple[Any, Any] | None = None) -> None:
            self.size = (rows, columns)
            if self.keys_all is not None:
                self.keys_all, self.values_all = (
                    _grown(tensor, rows, columns) for tensor in (self.keys_all, self.values_all)
                )
            elif like is not None:
                # Zeros, not garbage: a hidden column still meets the values, times 0.
                self.keys_all, self.values_all = (
                    torch.zeros((rows, one.shape[-3], columns, one.shape[-1]), dtype=one.dtype, device=one.device)
                    for one in like
                )

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            self.resize(*self.size, (key_states, value_states))

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if self.keys_all is None:
                self.lazy_initialization(key_states, value_states)
            self.keys_all[self.index, :, self.positions] = key_states.transpose(1, 2)
            self.values_all[self.index, :, self.positions] = value_states.transpose(1, 2)
            return self.keys_all[: self.rows, :, : self.width], self.values_all[: self.rows, :, : self.width]

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.width, 0

        def get_seq_length(self) -> int:
            return self.width

        def get_max_length(self) -> int:
            return -1

    layers = [SlotLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
    return Cache(layers=layers), layers


def _grown(tensor: Any, rows: int, columns: int) -> Any:
    import torch

    if tensor.shape[0] >= rows and tensor.shape[2] >= columns:
        return tensor
    grown = torch.zeros(
        (max(rows, tensor.shape[0]), tensor.shape[1], max(columns, tensor.shape[2]), tensor.shape[3]),
        dtype=tensor.dtype,
        device=tensor.device,
    )
    grown[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return grown


def register_attention() -> str:
    """Make our attention function known to transformers and return its name.

    It is scaled-dot-product attention that does not repeat keys and values for grouped queries: the queries of a group
    are treated as one head's. transformers repeats them, which for one new token a row copies the whole cache.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    return ATTENTION


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    import torch.nn.functional as functional

    rows, heads, count, size = query.shape
    group = heads // key.shape[1]
    if attention_mask is None or group == 1:
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, is_causal=attention_mask is None and count > 1,
            scale=scaling, enable_gqa=group > 1,
        )  # fmt: skip
    else:
        if count > 1:
            attention_mask = attention_mask.repeat(1, 1, group, 1)
        grouped = query.reshape(rows, key.shape[1], group * count, size)
        out = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
        out = out.view(rows, heads, count, value.shape[-1])
    return out.transpose(1, 2).contiguous(), None
