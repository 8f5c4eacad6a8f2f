"""Self-evolution: search trees to training data, and the trainers."""

from __future__ import annotations

if __name__ == "training":
    raise ImportError("this folder is the package rstar_eval.training: import it by that name, after `pip install -e .`")
