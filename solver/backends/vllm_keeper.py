"""Keeping one vLLM engine alive for its users: restarts, back-pressure, a clean end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from rstar_eval.errors import BackendError, UserError

logger = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_RESTARTS = 1
SHUTDOWN_SECONDS = 10.0
"""What an engine's processes get to end by themselves before they are killed."""


class Gate:
    """Lets at most `size` sequences through at a time, in the order in which they came."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def open(self) -> int:
        """Sequences inside now."""
        return self._size - self._free

    @asynccontextmanager
    async def enter(self, count: int) -> AsyncIterator[None]:
        """Wait for room for `count` sequences (more than `size` count as `size`) and hold it."""
        count = min(count, self._size)
        if self._waiting or count > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((count, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(count)  # its turn had come in the same moment
                else:
                    self._admit()  # who waited behind it may fit
                raise
        else:
            self._free -= count
        try:
            yield
        finally:
            self._leave(count)

    def _leave(self, count: int) -> None:
        self._free += count
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            count, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= count
                turn.set_result(None)


class EngineKeeper:
    """Holds the running engine (a vllm AsyncLLM) and starts it again, at most `restarts` times, when it dies.

    A request that the dead engine held is asked again of the new one: seeds make it the same request.
    """

    def __init__(self, name: str, start: Callable[[], tuple[Any, Path]], restarts: int = DEFAULT_RESTARTS) -> None:
        """`start` blocks until an engine is ready and returns it with its log file; it is called in a thread. `name`
        is the model's, for messages."""
        self._name, self._start = name, start
        self._left = restarts
        self._engine: Any = None
        self._log: Path | None = None
        self._lock = asyncio.Lock()
        self._closed = False
        self._numbers = itertools.count()

    async def open(self) -> Any:
        """Start the engine for the first time and return it. UserError if it does not start."""
        # A start under way can't be stopped: its engine is taken over and ended before the cancelling goes on.
        task = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            self._engine, self._log = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if task.exception() is None:
                self._engine, self._log = task.result()
                await self._end()
            raise
        return self._engine

    async def ask(self, request: Callable[[Any, str], AsyncGenerator[T, None]]) -> T:
        """Return the last output of `request(engine, request id)`.

        Cancelling it takes the request out of the engine. BackendError when the engine has died and may not start
        again, or was closed; or when it failed this request.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        while True:
            engine = self._running()
            outputs = request(engine, f"r{next(self._numbers)}")
            last: T | None = None
            try:
                async for output in outputs:
                    last = output
            except EngineDeadError:
                await self._revive(engine)
                continue
            except EngineGenerateError as error:
                if engine.errored:
                    await self._revive(engine)
                    continue
                raise BackendError(f"vLLM failed a request of {self._name} ({_cause(error)})") from error
            except (VLLMClientError, ValueError) as error:
                raise BackendError(f"vLLM refuses a request of {self._name} ({_cause(error)})") from error
            finally:
                await outputs.aclose()
            if last is None:
                raise BackendError(f"vLLM answered a request of {self._name} with nothing")
            return last

    async def reset_cache(self) -> None:
        """Empty the engine's prefix cache."""
        await self._running().reset_prefix_cache()

    def _running(self) -> Any:
        if self._closed or self._engine is None:
            raise BackendError(f"the vLLM engine of {self._name} is closed")
        return self._engine

    async def _revive(self, dead: Any) -> None:
        """Replace the engine `dead`, unless somebody has done so already."""
        async with self._lock:
            if self._running() is not dead:
                return
            said = _last_words(self._log)
            await self._end()
            if self._left < 1:
                raise BackendError(
                    f"the vLLM engine of {self._name} died{said}", "give it more memory if it lacked it."
                )
            self._left -= 1
            logger.warning("the vLLM engine of %s died%s; it is started again", self._name, said)
            try:
                await self.open()
            except UserError as error:
                raise BackendError(f"the vLLM engine of {self._name} died and does not start again: {error}") from error

    async def close(self) -> None:
        """End the engine and its processes. May be called twice."""
        self._closed = True
        async with self._lock:
            await self._end()

    async def _end(self) -> None:
        engine, log = self._engine, self._log
        self._engine = self._log = None
        if engine is not None:
            await _shut_down(engine)
        if log is not None:
            log.unlink(missing_ok=True)


async def _shut_down(engine: Any) -> None:
    """End an engine's processes; requests that are still open fail."""
    from vllm.v1.engine.exceptions import EngineDeadError

    # Its reader of outputs would take the end of the engine core, which comes next, for a crash.
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        await asyncio.gather(engine.output_handler, return_exceptions=True)
    engine.output_processor.propagate_error(EngineDeadError())
    await asyncio.to_thread(engine.shutdown, SHUTDOWN_SECONDS)
    multiprocessing.active_children()  # reaps those that it had to kill
    # Its finaliser shuts down once more, when the interpreter has lost half of what that needs.
    engine.shutdown = lambda timeout=None: None


def _cause(error: BaseException) -> str:
    at: BaseException = error
    while at.__cause__ is not None:
        at = at.__cause__
    return " ".join(f"{type(at).__name__}: {at}".split())[:300]


def _last_words(log: Path | None) -> str:
    """Return the last error in an engine's log, in brackets; nothing if it died without one."""
    lines = log.read_text("utf-8", "replace").splitlines() if log is not None and log.exists() else []
    errors = [line for line in lines if "Error: " in line]
    return f" ({' '.join(errors[-1].split())[-200:]})" if errors else ""
