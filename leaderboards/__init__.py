"""Published figures, our own results, and what renders them."""

from __future__ import annotations

if __name__ == "leaderboards":
    raise ImportError("this folder is the package rstar_eval.leaderboards: import it by that name, after `pip install -e .`")
