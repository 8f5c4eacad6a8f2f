"""The engine of a reward model, run by vLLM: outputs at chosen tokens of a text (reward/engines.py: ScoreEngine).

Every place at which an output is read is one pooling request: the tokens up to there, pooled at the last one. Causal
layers give the same output as in the whole text, and the prefix cache holds what the places of one text, the siblings
of one expansion and the steps of one path have in common.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.hf import check_folder
from rstar_eval.solver.backends.vllm_keeper import DEFAULT_RESTARTS, EngineKeeper, Gate
from rstar_eval.solver.backends.vllm_settings import describe, read_settings
from rstar_eval.solver.backends.vllm_start import check_installed, quiet, start
from rstar_eval.solver.backends.waves import REST, REST_TIMES, Waves
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.reward.engines import Head, ScoreInput
from rstar_eval.solver.reward.spec import RewardSpec

WAITING = 4
"""Open requests for each sequence that vLLM computes at a time, at most; the rest wait here."""


class VLLMScoreEngine:
    """Runs a reward model with vLLM (engines.ScoreEngine)."""

    def __init__(
        self,
        keeper: EngineKeeper,
        task: str,
        outputs: int,
        context: int,
        parallel: int,
        identity: Mapping[str, object],
    ) -> None:
        """`task` is vLLM's: `classify` gives the output at the last token, `token_classify` one for each token that was
        computed, of which the last is read. `outputs` is how many numbers an output must have."""
        self.context = context
        self._keeper, self._task, self._outputs, self._identity = keeper, task, outputs, identity
        self._gate, self._waves = Gate(parallel * WAITING), Waves(REST, REST_TIMES)

    async def logits(self, inputs: Sequence[ScoreInput]) -> list[list[list[float]]]:
        """Return the head's outputs for each input at each of its places (engines.ScoreEngine.logits)."""
        places = [one.tokens[: place + 1] for one in inputs for place in one.positions]
        async with self._waves.enter():
            found = iter(await together(self._output(tokens) for tokens in places))
        return [[next(found) for _ in one.positions] for one in inputs]

    async def _output(self, tokens: tuple[int, ...]) -> list[float]:
        async with self._gate.enter(1):
            answer = await self._keeper.ask(partial(self._request, list(tokens)))
        data = answer.outputs.data
        values = data[-1] if data.dim() == 2 else data
        if values.numel() != self._outputs:
            raise AssertionError(f"the head gave {values.numel()} outputs, {self._outputs} were expected")
        return [float(value) for value in values.reshape(-1).float()]

    def _request(self, tokens: list[int], engine: Any, number: str) -> AsyncGenerator[Any, None]:
        from vllm import PoolingParams

        # Unless told so, vLLM computes a text afresh when it is to give an output for each token.
        parameters = PoolingParams(task=self._task, use_activation=False, skip_reading_prefix_cache=False)
        outputs: AsyncGenerator[Any, None] = engine.encode(
            {"type": "token", "prompt_token_ids": tokens}, parameters, number
        )
        return outputs

    async def reset_cache(self) -> None:
        """Forget what earlier texts left in the prefix cache, so that two measurements begin alike."""
        await self._keeper.reset_cache()

    def describe(self) -> Mapping[str, object]:
        """Return engine, versions, model, sha256 of the weights, device and settings."""
        return self._identity

    async def close(self) -> None:
        """End the engine's processes. May be called twice."""
        await self._keeper.close()


async def start_scoring(spec: RewardSpec, path: Path, head: Head) -> VLLMScoreEngine:
    """Start vLLM with the reward checkpoint in the folder `path`, read as `head` says.

    UserError if vLLM is missing, cannot serve this head, or does not start (with vLLM's reason).
    """
    if head.kind in ("bilinear", "logratio"):
        raise UserError(f"vLLM cannot serve the head of {str(path)!r}", "use engine=hf")
    check_installed()
    check_folder(path)
    await asyncio.to_thread(quiet)
    overrides = _token_head(path, head.tokens) if head.kind == "tokens" else None
    settings = read_settings(path, spec, pooling=True, overrides=overrides)
    keeper = EngineKeeper(spec.text, partial(start, settings), spec.integer("restarts", DEFAULT_RESTARTS))
    running = await keeper.open()
    try:
        tasks = await running.get_supported_tasks()
        config = running.vllm_config
        longest = int(config.model_config.max_model_len)
        return VLLMScoreEngine(
            keeper,
            "classify" if "classify" in tasks else "token_classify",
            head.outputs,
            min(spec.integer("max_tokens", longest), longest),
            int(config.scheduler_config.max_num_seqs),
            describe(settings, config),
        )
    except BaseException:
        await keeper.close()
        raise


def _token_head(path: Path, tokens: Sequence[int]) -> dict[str, object]:
    """Return what makes vLLM take the language-model head's rows of `tokens` as the head of a classifier."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    architecture = str((config.architectures or [""])[0])
    return {
        "architectures": [architecture.replace("ForCausalLM", "ForSequenceClassification")],
        "classifier_from_token": [str(one) for one in tokenizer.convert_ids_to_tokens(list(tokens))],
        "method": "no_post_processing",
        "num_labels": len(tokens),
    }
