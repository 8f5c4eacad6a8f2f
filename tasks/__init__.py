"""The benchmarks: where each one's problems come from, and the generated mini tasks."""

from __future__ import annotations

if __name__ == "tasks":
    raise ImportError("this folder is the package rstar_eval.tasks: import it by that name, after `pip install -e .`")
