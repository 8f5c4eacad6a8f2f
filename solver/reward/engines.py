"""The seam between a reward model's adapter and what runs its network.

An *adapter* (ppm, orm, pqm, prm, official) knows the text that its checkpoint was trained on, turns it into tokens,
says at which tokens an output is read, and maps the outputs to a value in [-1, 1]. An *engine* (transformers, vLLM)
takes tokens only and returns the raw outputs there, so that every engine sees the same tokens. The tokenizer is the
adapter's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rstar_eval.registry import Registry
from rstar_eval.solver.reward.spec import RewardSpec


@dataclass(frozen=True, slots=True)
class ScoreInput:
    """The tokens of one text, and the places in them (0-based, ascending, none twice) at which outputs are read.

    A last-token head has one place, the last token; a step-token head one a step; one that judges tokens one a token of
    the solution (none for an empty one: no outputs).
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Which outputs of a checkpoint are read.

    classify: the checkpoint's own classification head (`score`), `outputs` numbers a place, before any activation.
    tokens: the language-model head's logits of the tokens in `tokens`, in that order (`outputs` = len(tokens)).
    bilinear: reward/bilinear.py's reward of the token at each place (one output); transformers only.
    logprob: the log probability of the token at each place; logratio: the same less that of the reference policy
    (reward/logratio.py). One output each; transformers only.
    """

    kind: Literal["classify", "tokens", "bilinear", "logprob", "logratio"] = "classify"
    outputs: int = 1
    tokens: tuple[int, ...] = ()


class ScoreEngine(Protocol):
    """Runs a network over tokens. `context` is the most tokens of one input; the adapter cuts longer ones before."""

    context: int

    async def logits(self, inputs: Sequence[ScoreInput]) -> list[list[list[float]]]:
        """Return for each input, for each of its places, the head's outputs (float32, no activation applied).

        Equal inputs give equal outputs whatever else is computed at the same time, up to rounding. Requests of
        different problems share batches; cancelling the call frees what is not computed yet. BackendError when the
        model is gone for good.
        """
        ...

    def describe(self) -> Mapping[str, object]:
        """Return engine, versions, model, sha256 of the weights, device and settings, for the manifest."""
        ...

    async def close(self) -> None:
        """Release the model. May be called twice."""
        ...


ENGINES: Registry[Callable[[RewardSpec, Path, Head], Awaitable[ScoreEngine]]] = Registry("reward engine")
"""The value of the spec's option `engine` to a maker: it loads the checkpoint folder, without trust_remote_code and
without unpickling, and returns the engine. UserError if the checkpoint, the package or the device is not there or does
not fit."""


@ENGINES.register("vllm")
async def _vllm(spec: RewardSpec, path: Path, head: Head) -> ScoreEngine:
    from rstar_eval.solver.backends import vllm_score

    return await vllm_score.start_scoring(spec, path, head)


@ENGINES.register("hf")
async def _hf(spec: RewardSpec, path: Path, head: Head) -> ScoreEngine:
    from rstar_eval.solver.reward import hf_engine

    return await hf_engine.start(spec, path, head)
