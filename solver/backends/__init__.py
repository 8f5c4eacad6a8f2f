"""Policies: what a spec like `gguf:model.gguf?parallel=8` names, made ready to sample."""

from __future__ import annotations

from rstar_eval.solver.backends.factory import make_policy
from rstar_eval.solver.backends.spec import SCHEMES, PolicySpec, parse_policy_spec

__all__ = ["SCHEMES", "PolicySpec", "make_policy", "parse_policy_spec"]
