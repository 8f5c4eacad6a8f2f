"""Self-evolution: search trees to training data, and the trainers."""

from __future__ import annotations

if __name__ == "training":
    raise ImportError("import this folder as rstar_eval.training, after `pip install -e .`")
