"""Random seeds that depend on what they are for, and on nothing else that runs."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a seed in 0..2**31-1 from the sha256 of `parts` (settings' seed, question id, tree, node, purpose).

    Two searches that run at the same time, in any order, therefore get the same seeds as alone. 31 bits are what every
    backend takes.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
