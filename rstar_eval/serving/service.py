"""The solver as a service: one set of models and sandbox workers, a bounded queue of searches in front of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from rstar_eval.config import RunConfig
from rstar_eval.errors import BackendError
from rstar_eval.problem import problem_id
from rstar_eval.serving.request import Asked, Refused, with_search
from rstar_eval.solver.search import Observer, Tools
from rstar_eval.solver.types import Question
from rstar_eval.solving import Solution, open_tools, solve_with

logger = logging.getLogger(__name__)
DEFAULT_CONCURRENCY = 8


class Service:
    """Runs searches for requests: at most `concurrency` at once, at most `queue` more waiting.

    A backend that dies ends the searches that it held with an error; the models are started again for the next request.
    """

    def __init__(
        self, config: RunConfig, *, queue: int = 64, notify: Callable[[str], None] = lambda text: None
    ) -> None:
        """`config` has the models and the default search settings; `notify` is told about loading."""
        self.config, self.queue, self.notify = config, queue, notify
        self.waiting = self.running = 0
        self._tools: Tools | None = None
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._gate = asyncio.Semaphore(1)

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._tools is not None

    async def start(self) -> None:
        """Load the models. UserError if they can't be."""
        await self._ready_tools()

    async def close(self) -> None:
        """Release the models. May be called twice."""
        self._tools = None
        await self._stack.aclose()

    async def solve(self, asked: Asked, observer: Observer | None = None) -> Solution:
        """Search for one request; cancelled when the caller is. Refused with 429 when too many wait already, with 503
        when the backend died."""
        if self.running + self.waiting >= self.queue + self.concurrency:
            raise Refused(429, f"{self.waiting} requests are waiting already; try again later", code="queue_full")
        self.waiting += 1
        try:
            tools = await self._ready_tools()
            gate = self._gate  # a restart makes a new one; what was taken here goes back here
            await gate.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            config = with_search(self.config, asked.search)
            question = Question(problem_id("serve", 0, asked.question), asked.question)
            return await solve_with(question, tools, config, observer=observer)
        except BackendError as error:
            logger.error("the backend failed: %s", error)  # noqa: TRY400  the message says it; a trace would not help
            await self._forget(tools)
            raise Refused(503, f"the backend failed: {error}", code="backend_failed") from error
        finally:
            self.running -= 1
            gate.release()

    @property
    def concurrency(self) -> int:
        """Searches at once."""
        policy = self._tools.policy if self._tools else None
        return self.config.concurrency or int(getattr(policy, "concurrency", DEFAULT_CONCURRENCY))

    async def _ready_tools(self) -> Tools:
        async with self._starting:
            if self._tools is None:
                self._stack = AsyncExitStack()
                self._tools = await self._stack.enter_async_context(open_tools(self.config, self.notify))
                self._gate = asyncio.Semaphore(self.concurrency)
            return self._tools

    async def _forget(self, tools: Tools) -> None:
        """Close models that failed, once: of several searches that fail together the first does it."""
        async with self._starting:
            if self._tools is tools:
                self._tools = None
                await self._stack.aclose()
