"""Published figures, our own results, and what renders them."""

from __future__ import annotations

if __name__ == "leaderboards":
    raise ImportError("import this folder as rstar_eval.leaderboards, after `pip install -e .`")
