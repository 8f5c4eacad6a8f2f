"""The embedded solver: steps, trees, search strategies, the executor, backends. It never sees a gold answer."""

from __future__ import annotations

if __name__ == "solver":
    raise ImportError("this folder is the package rstar_eval.solver: import it by that name, after `pip install -e .`")
