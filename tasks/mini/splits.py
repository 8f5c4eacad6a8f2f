"""Train, validation and test of the mini world are disjoint by construction: a problem's first sentence belongs to one
of them only, by its checksum."""

from __future__ import annotations

from typing import Literal
from zlib import crc32

Split = Literal["train", "validation", "test"]
SPLIT_SHARES: dict[Split, range] = {"train": range(70), "validation": range(70, 80), "test": range(80, 100)}
"""Which checksums (modulo 100) of a first sentence belong to which split."""


def belongs(sentence: str, split: Split) -> bool:
    """Return whether a first sentence is of `split`."""
    return crc32(sentence.encode()) % 100 in SPLIT_SHARES[split]
