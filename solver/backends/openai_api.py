"""The engine of an OpenAI-compatible server: vLLM, hosted models, anything else with /v1/chat/completions.

Servers differ in three things that matter here, and are told apart when the policy is made:
- continuing a reply that has begun: vLLM continues the last assistant message when asked to; of an unknown server we
  ask it in words, in the user's turn, and cut off what the reply repeats (`prefill=assistant` trusts the server);
- which stop string ended a reply: vLLM says it; an unknown server gets no stop strings, and its reply is cut here, so
  that the reason is known (the tokens behind the cut are spent, and counted);
- tokens of each of several replies: vLLM sends the token ids; an unknown server is asked once for each reply.
llama.cpp servers are spoken to through their native endpoints (llamacpp.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.backends.engine import Sampling, cut_at_stop, no_room
from rstar_eval.solver.backends.http_client import JsonClient, RefusedRequest
from rstar_eval.solver.types import Completion, FinishReason, Message, Prompt, SampleResult

CONTINUE = "\n\nYour reply has already begun as follows. Go on exactly where it ends, and do not repeat it:\n\n{prefix}"
FENCE = "```python\n"
BOXED = "\\boxed{"


@dataclass(frozen=True, slots=True)
class Server:
    """What a server can do.

    tells_stop: it says which stop string ended a reply. prefill: "assistant" if it continues the last assistant
    message, "user" if it must be asked in words. together: several replies of one request come with their token ids.
    """

    kind: str
    model: str
    tells_stop: bool
    prefill: str
    together: bool
    api: str = "auto"


class OpenAIEngine:
    """Continues text on an OpenAI-compatible server; `concurrency` bounds the open requests."""

    def __init__(self, client: JsonClient, server: Server, *, concurrency: int, identity: Mapping[str, object]) -> None:
        self._client = client
        self._server = server
        self.concurrency = concurrency
        self._identity = identity
        self._open = asyncio.Semaphore(concurrency)
        self._limit = "max_tokens"

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """Return the continuations (engine.Engine.generate)."""
        if self._server.together:
            return await self._request(prompt, sampling, sampling.seed, sampling.n)
        parts = await asyncio.gather(
            *(self._request(prompt, sampling, sampling.seed + i, 1) for i in range(sampling.n))
        )
        completions = tuple(completion for part in parts for completion in part.completions)
        return SampleResult(completions, max((part.prompt_tokens for part in parts), default=0))

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Do nothing: the server has caches of its own."""

    async def _request(self, prompt: Prompt, sampling: Sampling, seed: int, n: int) -> SampleResult:
        path, body = self._body(prompt, sampling, seed, n)
        async with self._open:
            reply = await self._post(path, body, sampling.max_tokens)
        if reply is None:
            return no_room(n, None, None)
        try:
            choices = sorted(reply["choices"], key=lambda choice: int(choice.get("index", 0)))
            usage = reply["usage"]
            spent = [_tokens(choice, usage, len(choices)) for choice in choices]
            completions = tuple(
                self._completion(choice, tokens, prompt, sampling)
                for choice, tokens in zip(choices, spent, strict=True)
            )
            return SampleResult(completions, int(usage["prompt_tokens"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BackendError(
                f"the server at {self._client.base_url} sent a reply that cannot be read"
                f" ({type(error).__name__}: {error}): {str(reply)[:120]}"
            ) from None

    def _body(self, prompt: Prompt, sampling: Sampling, seed: int, n: int) -> tuple[str, dict[str, object]]:
        body: dict[str, object] = {
            "model": self._server.model,
            "n": n,
            "seed": seed % 2**31,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if self._server.tells_stop:
            # Special tokens may be part of the step grammar; the end-of-sequence token is never part of the text.
            body |= {"stop": list(sampling.stops), "return_token_ids": True, "skip_special_tokens": prompt.raw is None}
        if prompt.raw is not None and self._server.api != "chat":
            return "completions", {**body, "prompt": prompt.raw, **({"logprobs": 1} if sampling.logprobs else {})}
        if sampling.logprobs:
            body["logprobs"] = True
        messages = prompt.messages or (Message("user", prompt.raw or ""),)
        return "chat/completions", {**body, **self._chat(messages, prompt.assistant_prefix)}

    def _chat(self, messages: Sequence[Message], prefix: str) -> dict[str, object]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if not prefix:
            return {"messages": turns}
        if self._server.prefill == "user":
            turns[-1]["content"] += CONTINUE.format(prefix=prefix)
            return {"messages": turns}
        turns.append({"role": "assistant", "content": prefix})
        if self._server.kind != "vllm":
            return {"messages": turns}
        return {"messages": turns, "continue_final_message": True, "add_generation_prompt": False}

    async def _post(self, path: str, body: dict[str, object], max_tokens: int) -> Any:
        """Return the reply, or None if the prompt fills the model's context."""
        limit: int | None = max_tokens
        for _ in range(4):
            try:
                return await self._client.post(path, {**body, self._limit: limit})
            except RefusedRequest as error:
                if "logprobs" in error.message and "logprobs" in body:
                    del body["logprobs"]  # the reply then has none, which the search reports
                elif (
                    "max_completion_tokens" in error.message
                    and self._limit == "max_tokens"
                    and "context" not in error.message
                ):
                    self._limit = "max_completion_tokens"
                elif "context" in error.message or "too long" in error.message:
                    if limit is None:
                        return None
                    limit = None  # less room than max_tokens: the server then fills the room that there is
                else:
                    raise BackendError(
                        f"the server at {self._client.base_url} refuses a request ({error})", "check the model's name"
                    ) from None
        return None

    def _completion(self, choice: Mapping[str, Any], tokens: int, prompt: Prompt, sampling: Sampling) -> Completion:
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        text = str(text or "")
        finish: FinishReason = "eos" if choice["finish_reason"] == "stop" else "length"
        if self._server.tells_stop:
            reason = choice.get("stop_reason")
            total, counted = logprob_of(choice, None)
            if finish == "eos" and isinstance(reason, str):
                return Completion(text, "stop", reason, tokens, total, counted)
            return Completion(text, finish, None, tokens, total, counted)
        if prompt.assistant_prefix and self._server.prefill == "user":
            text = continuation(prompt.assistant_prefix, text)
        text, stop = cut_at_stop(text, sampling.stops)
        total, counted = logprob_of(choice, text + (stop or ""))
        return Completion(text, "stop" if stop else finish, stop, tokens, total, counted)

    def describe(self) -> Mapping[str, object]:
        """Return the served model, the server's kind and how it is spoken to."""
        how = "reported" if self._server.tells_stop else "cut here"
        return {**self._identity, "server": self._server.kind, "prefill": self._server.prefill, "stops": how}

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._client.close()


def _tokens(choice: Mapping[str, Any], usage: Mapping[str, Any], choices: int) -> int:
    ids = choice.get("token_ids")
    if ids is not None:
        return len(ids)
    if choices > 1:
        raise ValueError("several replies without token ids")
    return int(usage["completion_tokens"])


def logprob_of(choice: Mapping[str, Any], kept: str | None) -> tuple[float | None, int]:
    """Return the sum of the log-probabilities of a reply's tokens and their number; (None, 0) if it lists none.

    With `kept`, the part of the reply that was not cut off, only the tokens that hold a piece of it count.
    """
    listed = choice.get("logprobs") or {}
    if listed.get("content") is not None:  # chat
        pairs = [(str(one["token"]), float(one["logprob"])) for one in listed["content"]]
    elif listed.get("token_logprobs") is not None:
        values = listed["token_logprobs"]
        pairs = [(str(t), float(v)) for t, v in zip(listed["tokens"], values, strict=True) if v is not None]
    else:
        return None, 0
    if kept is not None:
        start = "".join(token for token, _ in pairs).find(kept)
        end, at, inside = start + len(kept), 0, []
        for token, value in pairs:
            at += len(token)
            if at > start and at - len(token) < end:
                inside.append((token, value))
        pairs = inside if start >= 0 else pairs
    return math.fsum(value for _, value in pairs), len(pairs)


def continuation(prefix: str, reply: str) -> str:
    """Return what `reply` adds to `prefix`, for servers that can only be asked in words to go on.

    Models repeat the whole prefix, or reopen the code block that is open, or repeat the last words; white space may
    differ. What precedes a reopened block, or a \\boxed{ that the prefix ends with, is dropped.
    """
    if prefix.endswith(BOXED) and BOXED in reply:
        return reply[reply.rindex(BOXED) + len(BOXED) :]
    if FENCE in prefix and FENCE in reply:
        opened = reply.index(FENCE) + len(FENCE)
        whole = _after(prefix[prefix.rindex(FENCE) + len(FENCE) :], reply[opened:])
        if whole is not None:
            return whole
        reply = reply[opened:]
    last = prefix.rsplit("\n", 1)[-1]
    repeated = _after(last, reply)
    return reply if repeated is None else repeated


def _after(start: str, text: str) -> str | None:
    """Return `text` after `start`, white space apart; None if it does not begin so, or `start` is blank."""
    wanted = [character for character in start if not character.isspace()]
    at = 0
    for character in wanted:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) or text[at] != character:
            return None
        at += 1
    return text[at:] if wanted else None
