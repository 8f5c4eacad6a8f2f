"""The engine of a causal language model in a local folder, run by vLLM in our own process.

vLLM batches what is open at any time by itself, token by token, and finds common beginnings in its prefix cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rstar_eval.embedded import model_path
from rstar_eval.errors import BackendError
from rstar_eval.solver.backends.engine import Sampling, cut_at_stop, no_room
from rstar_eval.solver.backends.hf import check_folder, load_tokenizer
from rstar_eval.solver.backends.prompt_tokens import encode
from rstar_eval.solver.backends.spec import PolicySpec
from rstar_eval.solver.backends.vllm_keeper import DEFAULT_RESTARTS, EngineKeeper, Gate
from rstar_eval.solver.backends.vllm_settings import describe, read_settings
from rstar_eval.solver.backends.vllm_start import check_installed, quiet, start
from rstar_eval.solver.types import Completion, FinishReason, Prompt, SampleResult

SEARCHES = 64
"""Problems searched at once unless `concurrency` says otherwise: what one expansion of each leaves open fills vLLM's
batch even while other searches wait for their code and their scores."""
WAITING = 4
"""Open sequences for each one that vLLM computes at a time, at most. The rest wait here, where cancelling is free."""


class VLLMEngine:
    """Continues text with vLLM (engine.Engine)."""

    def __init__(
        self,
        keeper: EngineKeeper,
        tokenizer: Any,
        *,
        context: int,
        parallel: int,
        concurrency: int,
        lora: Path | None,
        identity: Mapping[str, object],
    ) -> None:
        self._keeper, self._tokenizer, self._context = keeper, tokenizer, context
        self._gate = Gate(parallel * WAITING)
        self._identity = identity
        self._adapter = _adapter(lora)
        self._stop_tokens: dict[tuple[str, ...], dict[int, str]] = {}
        self.concurrency = concurrency

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """Return the continuations (engine.Engine.generate). Cancelling the call aborts the request in vLLM."""
        tokens = encode(self._tokenizer, prompt)
        room = self._context - len(tokens)
        if room < 1:
            return no_room(sampling.n, len(tokens), self._context)
        if sampling.n < 1:
            return SampleResult((), len(tokens))
        greedy = sampling.temperature == 0
        n = 1 if greedy else sampling.n  # n greedy completions are one, n times
        stop_tokens = self._stops(sampling.stops)
        parameters = self._parameters(sampling, n, min(sampling.max_tokens, room), stop_tokens)
        async with self._gate.enter(n):
            output = await self._keeper.ask(partial(self._request, tokens, parameters))
        completions = tuple(_completion(one, sampling.stops, stop_tokens) for one in output.outputs)
        return SampleResult(completions * sampling.n if greedy else completions, len(tokens))

    def _request(self, tokens: list[int], parameters: Any, engine: Any, number: str) -> AsyncGenerator[Any, None]:
        outputs: AsyncGenerator[Any, None] = engine.generate(
            {"type": "token", "prompt_token_ids": tokens}, parameters, number, lora_request=self._adapter
        )
        return outputs

    def _parameters(self, sampling: Sampling, n: int, max_tokens: int, stop_tokens: Mapping[int, str]) -> Any:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        try:
            return SamplingParams(
                n=n,
                seed=sampling.seed,  # vLLM gives sample i the seed `seed + i`
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=max_tokens,
                stop=list(sampling.stops),
                stop_token_ids=list(stop_tokens),
                # Special tokens stay in the text: they may be marks of the step grammar.
                skip_special_tokens=False,
                spaces_between_special_tokens=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                logprobs=0 if sampling.logprobs else None,  # of the sampled token alone; before temperature and top_p
            )
        except VLLMClientError as error:
            reason = " ".join(str(error).split())
            raise BackendError(f"vLLM refuses these sampling settings ({reason})", "give others") from None

    def _stops(self, stops: tuple[str, ...]) -> dict[int, str]:
        """Return the tokens that are a stop string by themselves. The engine core ends a sequence at such a token at
        once; a stop string is found by the front end only, one token later."""
        if stops not in self._stop_tokens:
            found: dict[int, str] = {}
            for stop in stops:
                ids = self._tokenizer(stop, add_special_tokens=False)["input_ids"]
                if len(ids) == 1 and self._tokenizer.decode(ids, skip_special_tokens=False) == stop:
                    found[int(ids[0])] = stop
            self._stop_tokens[stops] = found
        return self._stop_tokens[stops]

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Compute what the prompts share, which the prefix cache keeps: one token behind the first of them."""
        await self.generate(prompts[0], Sampling(1, 0, 0.0, 1.0, 1, ()))

    async def reset_cache(self) -> None:
        """Forget what earlier prompts left in the prefix cache, so that two measurements begin alike."""
        await self._keeper.reset_cache()

    def describe(self) -> Mapping[str, object]:
        """Return the model's path, its weights' hash, versions and settings."""
        return self._identity

    async def close(self) -> None:
        """End the engine's processes. May be called twice."""
        await self._keeper.close()


def _completion(output: Any, stops: Sequence[str], stop_tokens: Mapping[int, str]) -> Completion:
    """Read one of vLLM's outputs. `stop_reason` is the stop string, a token that we or the model's settings named as an
    end, or None at the end-of-sequence token."""
    text, tokens = str(output.text), len(output.token_ids)
    finish: FinishReason
    if output.finish_reason == "length":
        finish, stop = "length", None
    elif output.finish_reason == "stop":
        reason = output.stop_reason
        stop = reason if isinstance(reason, str) else stop_tokens.get(reason) if reason is not None else None
        finish = "stop" if stop is not None else "eos"
    else:
        raise BackendError(f"vLLM ended a sequence with {output.finish_reason!r}")
    # One token may complete two stop strings; vLLM reports the one that is first in the list, not in the text.
    cut, earlier = cut_at_stop(text, stops)
    if earlier is not None:
        text, finish, stop = cut, "stop", earlier
    logprob = output.cumulative_logprob if output.logprobs is not None else None
    return Completion(text, finish, stop, tokens, logprob, tokens if logprob is not None else 0)


def _adapter(folder: Path | None) -> Any:
    if folder is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(folder))


async def load(spec: PolicySpec, stat_loggers: Sequence[Any] = ()) -> tuple[VLLMEngine, bool]:
    """Start vLLM with the model in the folder `spec.target`. Return its engine, and whether it has a chat template.
    `stat_loggers` are vLLM's: makers of what receives its metrics at every step.

    UserError if vLLM is missing, the folder is none, or vLLM does not start with it (with vLLM's reason).
    """
    check_installed()
    path = model_path(spec.target)
    check_folder(path)
    tokenizer = await asyncio.to_thread(load_tokenizer, path)
    await asyncio.to_thread(quiet)
    settings = read_settings(path, spec)
    keeper = EngineKeeper(
        spec.target, partial(start, settings, stat_loggers), spec.integer("restarts", DEFAULT_RESTARTS)
    )
    running = await keeper.open()
    try:
        config = running.vllm_config
        context = int(config.model_config.max_model_len)
        parallel = int(config.scheduler_config.max_num_seqs)
        engine = VLLMEngine(
            keeper,
            tokenizer,
            context=context,
            parallel=parallel,
            concurrency=spec.integer("concurrency", SEARCHES),
            lora=settings.lora,
            identity=describe(settings, config),
        )
    except BaseException:
        await keeper.close()
        raise
    return engine, bool(getattr(tokenizer, "chat_template", None))
