"""The solver as a model of lm-eval: `--model rstar --model_args policy=...,strategy=mcts,rollouts=64`.

Needs the extra `lm-eval`. A request's prompt is all that is read: never its document, which holds the reference answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# lm-eval fills its registry when this package is first imported, and refuses a name that is there already.
import lm_eval.models  # noqa: F401
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from rstar_eval.config import build_config, load_preset
from rstar_eval.integrations.lm_eval_tasks import question_of
from rstar_eval.serial import to_data
from rstar_eval.solver.backends.engine import cut_at_stop
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.search import Tools
from rstar_eval.solver.types import Budget, Question
from rstar_eval.solving import open_tools, solve_with

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)
DEFAULT_CONCURRENCY = 8
_NO_LIKELIHOOD = (
    "the model rstar writes answers by search and gives no log-likelihoods: use it with generate_until tasks "
    "(all rstar_* tasks are)"
)


@register_model("rstar")
class RStarLM(LM):  # type: ignore[misc]
    """The solver behind lm-eval's interface.

    Arguments are the settings of a run (policy, reward, strategy, rollouts, trees, seed, ...: docs/search.md), a
    `preset`, and `budget_log`, a file that gets one JSON line a request: what the search spent, its answer and votes.
    Sampling settings of the tasks (temperature, max_gen_toks) do not apply: the search has its own. The same prompt
    asked again (a task's repeats) is searched with another seed.
    """

    tokenizer_name = "rstar"

    def __init__(self, *, preset: str | None = None, budget_log: str | None = None, **settings: Any) -> None:
        """UserError for an unknown setting, a wrong value or a model that can't be loaded (at the first request)."""
        super().__init__()
        for name in ("batch_size", "max_batch_size", "device"):  # lm-eval's own; the policy's spec says these
            settings.pop(name, None)
        self.config = build_config(load_preset(preset) if preset else {}, settings)
        self.budget_log = Path(budget_log) if budget_log else None
        self.budget = Budget()

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the final answer's text for each request, with the answer in \\boxed{}; "" where none was found."""
        asked = [(str(request.args[0]), dict(request.args[1])) for request in requests]
        texts = asyncio.run(self._solve_all(asked))
        logger.info("rstar spent %s in %d requests", to_data(self.budget), len(requests))
        return texts

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """NotImplementedError: a search has no likelihood."""
        raise NotImplementedError(_NO_LIKELIHOOD)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """NotImplementedError: a search has no likelihood."""
        raise NotImplementedError(_NO_LIKELIHOOD)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the messages as plain text: how a policy is prompted is its step format's business."""
        return "\n\n".join(message["content"] for message in chat_history)

    def get_model_info(self) -> dict[str, Any]:
        """Return the settings and what was spent, for lm-eval's results file."""
        return {"rstar": to_data(self.config), "rstar_budget": to_data(self.budget)}

    async def _solve_all(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        async with open_tools(self.config, logger.info) as tools:
            width = self.config.concurrency or int(getattr(tools.policy, "concurrency", DEFAULT_CONCURRENCY))
            gate = asyncio.Semaphore(width)
            seen: dict[str, int] = {}
            jobs = []
            for prompt, settings in asked:
                repeat = seen[prompt] = seen.get(prompt, -1) + 1
                jobs.append(self._solve(prompt, settings, repeat, tools, gate))
            return await together(jobs)

    async def _solve(
        self, prompt: str, settings: Mapping[str, Any], repeat: int, tools: Tools, gate: asyncio.Semaphore
    ) -> str:
        digest = hashlib.sha256(f"{repeat}\x1f{prompt}".encode()).hexdigest()[:16]
        async with gate:
            solution = await solve_with(Question(digest, question_of(prompt)), tools, self.config)
        self.budget.add(solution.budget)
        if self.budget_log is not None:
            line = {"question": digest, "repeat": repeat, "answer": solution.answer, "choice": to_data(solution.choice)}
            with self.budget_log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "budget": to_data(solution.budget)}) + "\n")
        text = "" if solution.answer is None else f"The final answer is \\boxed{{{solution.answer}}}."
        until = settings.get("until") or []
        cut, _ = cut_at_stop(text, [until] if isinstance(until, str) else until)
        # At once, so that a run with --use_cache that is killed goes on where it was.
        self.cache_hook.add_partial("generate_until", (prompt, dict(settings)), cut)
        return cut
