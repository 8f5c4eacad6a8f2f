"""A policy made of two parts: a step format, which says what to ask and how to read the reply, and an engine, which
continues text. Every real backend is an engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rstar_eval.solver.protocols import StepFormat
from rstar_eval.solver.types import Completion, Prompt, SampleRequest, SampleResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a prompt is continued: `n` completions of at most `max_tokens` tokens, each cut at the first of `stops`.

    Completion i of a request has the seed `seed + i`, so that a request of n gives the same completions as n requests
    of one, on engines that keep seeds. Temperature 0 is greedy. `logprobs`: see types.SampleRequest. `apart`: each
    completion will be continued on its own (a whole block; of steps a few are, and share their prefix), so that an
    engine that caches by place should give each a place of its own.
    """

    n: int
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    stops: tuple[str, ...]
    logprobs: bool = False
    apart: bool = False


class Engine(Protocol):
    """What continues text. `concurrency` is how many requests at a time keep it busy."""

    concurrency: int

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """Return `sampling.n` continuations of `prompt`, the stop that ended each one known for certain.

        A prompt that leaves no room in the model's context gives empty completions that ended with "length".
        BackendError when the model is gone for good.
        """
        ...

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Prepare for prompts that begin like `prompts` (compute the part that they share, if the engine can)."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what identifies the model, its versions and settings."""
        ...

    async def close(self) -> None:
        """Release the model. May be called twice."""
        ...


class EnginePolicy:
    """The policy of an engine and a step format (protocols.Policy)."""

    def __init__(self, name: str, format: StepFormat, engine: Engine) -> None:
        self.name = name
        self.format = format
        self.engine = engine
        self.concurrency = engine.concurrency

    async def sample(self, request: SampleRequest) -> SampleResult:
        """Return `request.n` continuations of the request's solution prefix, in the policy's step format."""
        prompt = self.format.prompt(request.question, request.prefix)
        sampling = Sampling(
            n=request.n,
            seed=request.seed,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stops=self.format.stops(request.until),
            apart=request.until == "block",
            logprobs=request.logprobs,
        )
        return await self.engine.generate(prompt, sampling)

    async def warm(self) -> None:
        """Let the engine compute what the prompts of all questions share (a few-shot prompt's examples)."""
        await self.engine.warm([self.format.prompt(question, "") for question in ("1", "What?")])

    def describe(self) -> Mapping[str, object]:
        """Return the policy's spec, step format and the engine's own description."""
        return {"policy": self.name, "format": self.format.name, **self.engine.describe()}

    async def close(self) -> None:
        """Release the engine. May be called twice."""
        await self.engine.close()


def no_room(n: int, prompt_tokens: int | None, context: int | None) -> SampleResult:
    """Return the result of a prompt that fills the context: n empty completions that ended with "length".

    One over-long path must not end a run; the search ends that path. The log says so, with the numbers that the
    server told (None: it did not).
    """
    tokens, room = prompt_tokens or "unknown length", context or "unknown size"
    logger.warning("a prompt (tokens: %s) leaves no room in the model's context (%s): its path ends here", tokens, room)
    return SampleResult(tuple(Completion("", "length") for _ in range(n)), prompt_tokens or 0)


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """Return `text` before the stop string that begins first in it, and that stop string (None if there is none).

    Of two stop strings that begin at the same place, the longer one wins.
    """
    hits = [(text.index(stop), -len(stop), stop) for stop in stops if stop in text]
    if not hits:
        return text, None
    at, _, stop = min(hits)
    return text[:at], stop
