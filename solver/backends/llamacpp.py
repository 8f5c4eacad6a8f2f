"""The engine of a llama.cpp server, through its native endpoints.

These say what the OpenAI-compatible ones do not: which stop string ended a completion, how many tokens it took, and
several completions of one prompt that is computed once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.backends.engine import Sampling, no_room
from rstar_eval.solver.backends.http_client import JsonClient, RefusedRequest
from rstar_eval.solver.backends.llamacpp_process import LlamaCppProcess
from rstar_eval.solver.types import Completion, FinishReason, Prompt, SampleResult

logger = logging.getLogger(__name__)
SEED_RANGE = 2**31
TOP_K = 64
"""Tokens kept before nucleus sampling: sorting a vocabulary of 150k tokens for every token would cost a fifth of the
speed of a small model. The temperature is applied before top_p, as in transformers and vLLM."""
WARM_FILE = "warm"
RESTARTS = 2
"""How often a server of our own that dies is started again in one session."""
DEATH_SECONDS = 3.0
"""How long a server that does not answer is given to be found dead."""
Restart = Callable[[], Awaitable[tuple[LlamaCppProcess, JsonClient]]]
FINISH: Mapping[str, FinishReason] = {"eos": "eos", "word": "stop", "limit": "length"}


class LlamaCppEngine:
    """Continues text on a llama.cpp server.

    `slots` is how many completions the server computes at once, `context` the tokens of one slot. `process` is the
    server if we started it: it is stopped by `close`, and when it dies `restart` starts it again, RESTARTS times at
    most; what was asked of it is asked again.
    """

    def __init__(
        self,
        client: JsonClient,
        *,
        slots: int,
        context: int,
        identity: Mapping[str, object],
        process: LlamaCppProcess | None = None,
        restart: Restart | None = None,
    ) -> None:
        self._client = client
        self._slots = slots
        self.concurrency = slots
        self._context = context
        self._identity = identity
        self._process = process
        self._restart = restart
        self._left = RESTARTS
        self._restarting = asyncio.Lock()
        self._shared = ""
        self._retired: list[JsonClient] = []
        self._open = asyncio.Semaphore(2 * slots)  # the server queues what is over its slots

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """Return the continuations (engine.Engine.generate). More than the server has slots are asked for in parts.

        Completions that go on apart are asked for one by one: the server empties the slots of the further completions
        of a request at its end, and each continuation would compute its prompt again, worked examples and all.
        """
        text = await self.render(prompt)
        most = 1 if sampling.apart else self._slots
        sizes = [min(most, sampling.n - start) for start in range(0, sampling.n, most)]
        parts = await asyncio.gather(
            *(self._part(text, sampling, sampling.seed + i * most, size) for i, size in enumerate(sizes))
        )
        completions = tuple(completion for part in parts for completion in part.completions)
        return SampleResult(completions, max((part.prompt_tokens for part in parts), default=0))

    async def render(self, prompt: Prompt) -> str:
        """Return the plain text that the model is given: `prompt.raw`, or the messages in the model's chat template
        with the assistant's prefix behind them."""
        if prompt.raw is not None:
            return prompt.raw
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        try:
            reply = await self._post("apply-template", {"messages": messages})
        except RefusedRequest as error:
            raise BackendError(f"the model's chat template fails: {error.message}", "try another format") from None
        return str(reply["prompt"]) + prompt.assistant_prefix

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Compute what all `prompts` share once and, on a server of our own, copy it to every slot.

        The copy goes through a file, because the server empties the slots of further completions when a request ends.
        """
        self._shared = common_prefix([await self.render(prompt) for prompt in prompts])
        await self._fill_slots()

    async def _fill_slots(self) -> None:
        if len(self._shared) <= 64:
            return
        body = {"prompt": self._shared, "n_predict": 1, "temperature": 0.0, "cache_prompt": True}
        if self._process is None:
            await self._client.post("completion", body)
            return
        await self._client.post("completion", {**body, "id_slot": 0})
        await self._client.post("slots/0?action=save", {"filename": WARM_FILE})
        for slot in range(1, self._slots):
            await self._client.post(f"slots/{slot}?action=restore", {"filename": WARM_FILE})
        self._process.remove_slot_file(WARM_FILE)

    async def _part(self, text: str, sampling: Sampling, seed: int, n: int) -> SampleResult:
        body = {
            "prompt": text,
            "n_predict": sampling.max_tokens,
            "stop": list(sampling.stops),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "samplers": ["top_k", "temperature", "top_p"],
            "top_k": TOP_K,
            "seed": seed % SEED_RANGE,
            "n_cmpl": n,
            "cache_prompt": True,
        }
        if sampling.logprobs:  # not otherwise: the server sorts the vocabulary for every token to tell them
            body |= {"n_probs": 1, "post_sampling_probs": False}
        try:
            async with self._open:
                reply = await self._post("completion", body)
        except RefusedRequest as error:
            if "context" in error.message:
                return no_room(n, None, self._context)
            raise BackendError(f"llama.cpp refuses a request ({error.message})") from None
        items = sorted(reply if isinstance(reply, list) else [reply], key=lambda item: int(item.get("index", 0)))
        completions = tuple(_completion(item) for item in items)
        return SampleResult(completions, int(items[0].get("tokens_evaluated", 0)))

    async def _post(self, path: str, body: Mapping[str, object]) -> Any:
        """Post to the server; when it is our own and has died, start it again and ask again."""
        while True:
            client = self._client
            try:
                return await client.post(path, body)
            except BackendError as error:
                if self._process is None:
                    raise
                async with self._restarting:
                    if self._client is client:  # else another request has found out first
                        await self._revive(error)

    async def _revive(self, error: BackendError) -> None:
        """Start our server again. `error` if it still runs; BackendError with how it ended if it died too often."""
        assert self._process is not None
        try:
            await asyncio.wait_for(self._process.process.wait(), DEATH_SECONDS)
        except TimeoutError:
            raise error from None
        ended = str(self._process.failure())
        if self._restart is None or self._left < 1:
            raise BackendError(ended, "resume the run to go on") from None
        self._left -= 1
        logger.warning("%s; it is started again", ended)
        dead = self._process
        self._retired.append(self._client)  # other requests may still be failing on it
        self._process, self._client = await self._restart()
        await dead.stop()
        await self._fill_slots()

    def describe(self) -> Mapping[str, object]:
        """Return the model's identity and the server's settings."""
        return {**self._identity, "parallel": self._slots, "context": self._context, "top_k": TOP_K}

    async def close(self) -> None:
        """Close the connections and stop the server if we started it. May be called twice."""
        for client in (*self._retired, self._client):
            await client.close()
        if self._process is not None:
            await self._process.stop()


def _completion(item: Mapping[str, Any]) -> Completion:
    try:
        finish = FINISH[item["stop_type"]]
        stop = str(item["stopping_word"]) if finish == "stop" else None
        listed = item.get("completion_probabilities")
        # The tokens of a stop string are not listed.
        values = None if listed is None else [float(one["logprob"]) for one in listed]
        total, counted = (None, 0) if values is None else (math.fsum(values), len(values))
        return Completion(str(item["content"]), finish, stop, int(item["tokens_predicted"]), total, counted)
    except (KeyError, TypeError, ValueError):
        raise BackendError(f"llama.cpp sent a completion that cannot be read: {str(item)[:120]}") from None


def common_prefix(texts: Sequence[str]) -> str:
    """Return the longest text with which all of `texts` begin."""
    low, high = min(texts), max(texts)
    for i, character in enumerate(low):
        if i >= len(high) or high[i] != character:
            return low[:i]
    return low
