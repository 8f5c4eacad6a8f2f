"""Our search as a solver of inspect_ai: `--solver rstar_eval/search -S rollouts=8`. Needs the extra `inspect`.

By default the policy is the model that inspect_ai evaluates: it writes the steps, our search runs their code in our
sandbox, judges and chooses, and the log has every call. Of a sample only the prompt is read, never its target.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import sniffio
from inspect_ai.hooks import Hooks, RunEnd, hooks
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver

from rstar_eval.config import RunConfig, build_config, load_preset
from rstar_eval.errors import UserError
from rstar_eval.integrations.lm_eval_tasks import question_of
from rstar_eval.serial import to_data
from rstar_eval.solver.backends.engine import EnginePolicy, Sampling, cut_at_stop
from rstar_eval.solver.backends.openai_api import CONTINUE, continuation
from rstar_eval.solver.formats import get_format
from rstar_eval.solver.search import Tools
from rstar_eval.solver.types import Completion, Message, Prompt, Question, SampleResult
from rstar_eval.solving import Solution, open_tools, solve_with

MODEL = "inspect"
"""The policy that is inspect_ai's own model."""
CONCURRENCY = 32
"""What the engine says it takes at once; inspect_ai's max_connections is what bounds the requests."""


@solver  # type: ignore[untyped-decorator]
def search(policy: str = MODEL, preset: str | None = None, **settings: Any) -> Solver:
    """Search an answer to each sample's question.

    policy: "inspect" (the evaluated model), or a policy spec of ours (docs/policies.md), which is then loaded here;
    pass `--model none/none` with it. preset, settings: those of a run (strategy, rollouts, reward, candidates, seed,
    isolation ...). The output is one sentence with the answer in a box, "" if none was found; the votes and what the
    search spent are in the sample's metadata under `rstar`. Epochs are searched with other seeds. UserError for a wrong
    setting or a model that can't be loaded.
    """
    given = settings if policy == MODEL else {**settings, "policy": policy}
    config = build_config(load_preset(preset) if preset else {}, given)
    held = _Held(config, own_model=policy == MODEL)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        text = question_of(state.user_prompt.text)
        digest = hashlib.sha256(f"{state.epoch - 1}\x1f{text}".encode()).hexdigest()[:16]
        tools = await held.tools()
        solution = await solve_with(Question(digest, text), tools, config)
        state.output = _output(solution, tools.policy.name)
        state.messages.append(state.output.message)
        state.metadata["rstar"] = {
            "answer": solution.answer,
            "choice": to_data(solution.choice),
            "budget": to_data(solution.budget),
            "ends": list(solution.ends),
        }
        return state

    return solve


def _output(solution: Solution, model: str) -> ModelOutput:
    text = "" if solution.answer is None else f"The final answer is \\boxed{{{solution.answer}}}."
    prompt, completion = solution.budget.prompt_tokens, solution.budget.completion_tokens
    output = ModelOutput.from_content(model, text)
    output.usage = ModelUsage(input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion)
    return output


class _Held:
    """The models and sandbox workers of one solver, opened by its first sample and closed at the end of the run."""

    open: list[_Held] = []  # noqa: RUF012  one list for the process: the hook closes them all

    def __init__(self, config: RunConfig, *, own_model: bool) -> None:
        self.config, self.own_model = config, own_model
        self._tools: Tools | None = None
        self._stack = AsyncExitStack()
        self._opening: asyncio.Lock | None = None

    async def tools(self) -> Tools:
        if sniffio.current_async_library() != "asyncio":
            raise UserError("the search needs asyncio, and inspect_ai runs on trio", "unset INSPECT_ASYNC_BACKEND")
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._tools is None:
                policy = None
                if self.own_model:
                    model = get_model()
                    policy = EnginePolicy(f"{MODEL}:{model}", get_format("chat"), InspectEngine(model))
                self._stack = AsyncExitStack()
                opened = open_tools(self.config, lambda line: None, policy=policy)
                self._tools = await self._stack.enter_async_context(opened)
                _Held.open.append(self)
            return self._tools

    async def close(self) -> None:
        self._tools, self._opening = None, None
        await self._stack.aclose()


@hooks(name="rstar_eval_models", description="Closes the models and sandbox workers of rstar_eval/search after a run.")
class CloseModels(Hooks):  # type: ignore[misc]
    """inspect_ai has no end of a solver's life; the end of the run is it."""

    def enabled(self) -> bool:
        """Only while there is something to close."""
        return bool(_Held.open)

    async def on_run_end(self, data: RunEnd) -> None:
        """Close what the run's solvers opened."""
        while _Held.open:
            await _Held.open.pop().close()


class InspectEngine:
    """Continues text with a model of inspect_ai (solver/backends/engine.py), which may be any of its providers: a begun
    reply is asked in words to be continued, and stop strings are cut here."""

    concurrency = CONCURRENCY

    def __init__(self, model: Model) -> None:
        self._model = model

    async def generate(self, prompt: Prompt, sampling: Sampling) -> SampleResult:
        """See Engine. What inspect_ai raises (limits among them) goes through."""
        messages = _chat(prompt)
        parts = await asyncio.gather(*(self._one(prompt, messages, sampling, i) for i in range(sampling.n)))
        return SampleResult(tuple(one for one, _ in parts), max((tokens for _, tokens in parts), default=0))

    async def _one(
        self, prompt: Prompt, messages: list[ChatMessage], sampling: Sampling, place: int
    ) -> tuple[Completion, int]:
        config = GenerateConfig(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=(sampling.seed + place) % 2**31,
        )
        output = await self._model.generate(messages, config=config)
        text = (
            continuation(prompt.assistant_prefix, output.completion) if prompt.assistant_prefix else output.completion
        )
        text, stop = cut_at_stop(text, sampling.stops)
        full = output.stop_reason in ("max_tokens", "model_length")
        usage = output.usage or ModelUsage()
        completion = Completion(text, "stop" if stop else "length" if full else "eos", stop, usage.output_tokens)
        return completion, usage.input_tokens

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Do nothing: providers have caches of their own."""

    def describe(self) -> Mapping[str, object]:
        """Return the model's name."""
        return {"engine": "inspect_ai", "model": str(self._model)}

    async def close(self) -> None:
        """Do nothing: inspect_ai closes its models itself."""


def _chat(prompt: Prompt) -> list[ChatMessage]:
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    turns = list(prompt.messages or (Message("user", prompt.raw or ""),))
    if prompt.assistant_prefix:
        last = turns[-1]
        turns[-1] = Message(last.role, last.content + CONTINUE.format(prefix=prompt.assistant_prefix))
    return [kinds[turn.role](content=turn.content) for turn in turns]
