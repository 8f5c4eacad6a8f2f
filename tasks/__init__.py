"""The benchmarks: where each one's problems come from, and the generated mini tasks."""

from __future__ import annotations

if __name__ == "tasks":
    raise ImportError("import this folder as rstar_eval.tasks, after `pip install -e .`")
