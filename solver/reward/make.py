"""From the spec of a real reward model to the model: its tokenizer, its adapter, its engine."""

from __future__ import annotations

import asyncio
import importlib.util

from rstar_eval.embedded import model_path
from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder, load_tokenizer
from rstar_eval.solver.reward.engines import ENGINES
from rstar_eval.solver.reward.hf_weights import value_head
from rstar_eval.solver.reward.model import Adapter, ModelReward
from rstar_eval.solver.reward.public import public_adapter
from rstar_eval.solver.reward.spec import RewardSpec
from rstar_eval.solver.reward.trained import trained_adapter


async def make_model(spec: RewardSpec) -> ModelReward:
    """Return the reward model of `spec`, loaded. UserError as `make_reward`."""
    path = model_path(spec.target)
    check_folder(path)
    if not importlib.util.find_spec("transformers"):
        raise UserError("transformers is not installed", "pip install 'rstar-eval[hf]'")
    tokenizer = await asyncio.to_thread(load_tokenizer, path)
    adapter: Adapter
    if spec.scheme == "prm":
        adapter = public_adapter(spec, path, tokenizer)
    else:
        adapter = trained_adapter(spec, path, tokenizer)
    engine = spec.string("engine", "hf")
    if spec.scheme == "official":
        await asyncio.to_thread(value_head, path)
    if engine != "hf" and (spec.scheme == "official" or adapter.head.kind in ("bilinear", "logratio")):
        mend = "rstar-eval convert-ppm IN OUT, then ppm:OUT" if spec.scheme == "official" else "leave engine= out"
        what = "value_head.bin" if spec.scheme == "official" else f"the token_{adapter.head.kind} head"
        raise UserError(f"{engine} can't serve {what} of {str(path)!r}", mend)
    return ModelReward(spec.text, adapter, await ENGINES[engine](spec, path, adapter.head))
