"""Texts that begin alike, packed into one row, so that what they share is computed once.

A packed row holds the shared tokens and then each text's own ones. A mask lets a token see the shared ones and those of
its own text before it, never another text's; positions go on from the shared ones for each text. The states at a text's
tokens are then those of the text alone (up to rounding).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rstar_eval.solver.reward.engines import ScoreInput


@dataclass(slots=True)
class PackedRow:
    """Tokens of a row, the position of each, and which text it belongs to (0: shared; 1, 2, ...). `places` says for
    each text, for each place that is read, where in the row it is; `shared` how many tokens are shared."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    shared: int = 0


def shared_length(inputs: Sequence[ScoreInput]) -> int:
    """Return how many tokens all inputs have in common at their beginning."""
    first = min(inputs, key=lambda one: len(one.tokens)).tokens
    length = len(first)
    for one in inputs:
        if one.tokens[:length] != first[:length]:
            length = next(i for i in range(length) if one.tokens[i] != first[i])
    return length


def best_length(shared: int, parity: float) -> int:
    """Return how long a row of texts that share `shared` tokens should be, rounded up.

    A token's attention goes over the whole row, so that long rows are dear; short ones compute what is shared again and
    again. parity: the columns at which a token's attention costs as much as its weights. A row of L tokens then costs
    in proportion to L (parity + L) and holds L - shared tokens of its texts; this L makes the quotient least.
    """
    return math.ceil(shared + math.sqrt(shared * (shared + parity)))


def pack(inputs: Sequence[ScoreInput], most: int, parity: float) -> list[PackedRow]:
    """Pack the inputs, in order, into rows of the best length (best_length), at most `most` tokens (a longer input has
    a row of its own). Of a single input all but the last token counts as shared: a later text may begin with it."""
    shared = shared_length(inputs) if len(inputs) > 1 else max(0, len(inputs[0].tokens) - 1)
    most = min(most, best_length(shared, parity))
    rows: list[PackedRow] = []
    for one in inputs:
        own = len(one.tokens) - shared
        if not rows or len(rows[-1].tokens) + own > most:
            rows.append(PackedRow(list(one.tokens[:shared]), list(range(shared)), [0] * shared, shared=shared))
        row = rows[-1]
        start = len(row.tokens) - shared  # a text's token at place p >= shared lies at p + start in the row
        owner = len(row.places) + 1
        row.tokens += one.tokens[shared:]
        row.positions += range(shared, len(one.tokens))
        row.owners += [owner] * own
        row.places.append([place + start if place >= shared else place for place in one.positions])
    return rows


def alike(fresh: Sequence[int], totals: Sequence[int], most: int, waste: int) -> list[int]:
    """Return which rows to compute as one batch, the first row among them, by index.

    fresh: how many tokens of each row are still to be computed; a batch's rows are padded to the most of them. From the
    longest down, rows make up a batch until its padding would be more than `waste` tokens, or its rows, each as long as
    the longest of all, more than `most` tokens. A row by itself is always a batch.
    """
    batch: list[int] = []
    lost = longest = 0
    for i in sorted(range(len(fresh)), key=lambda i: -fresh[i]):
        lost += fresh[batch[0]] - fresh[i] if batch else 0
        longest = max(longest, totals[i])
        if lost > waste or (batch and longest * (len(batch) + 1) > most):
            if 0 in batch:
                break
            batch, lost, longest = [], 0, totals[i]
        batch.append(i)
    return batch
