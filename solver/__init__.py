"""The embedded solver: steps, trees, search strategies, the executor, backends. It never sees a gold answer."""

from __future__ import annotations

if __name__ == "solver":
    raise ImportError("import this folder as rstar_eval.solver, after `pip install -e .`")
