"""A worker of a distributed engine: the models and the sandbox of one process, asked from another one.

Plain Python: what runs it as an actor lies in ray_engine.py. A worker is given questions, and whole problems with their
gold answers in training alone (the searches of self-evolution are told the outcome of their answers)."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rstar_eval import __version__
from rstar_eval.config import RunConfig
from rstar_eval.engine.base import MakeOutcomes, Searched
from rstar_eval.engine.local import LocalEngine, model_folder, start_local
from rstar_eval.engine.remote_executor import RemoteExecutor
from rstar_eval.problem import Problem
from rstar_eval.solver.types import Budget, Question


class Cut(Exception):
    """A search was ended because the driver asked for it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says when it can take searches: how many at once (`width`), the descriptions of its models and
    executor, the machine's name and Ray's id of it, its process, versions, and what it had to say while it started."""

    width: int
    described: dict[str, Any]
    host: str
    node: str
    process: int
    version: str
    python: str
    notes: tuple[str, ...]


class SearchHost:
    """The worker. Its methods are called over the network; several searches run side by side in its event loop."""

    def __init__(self, config: RunConfig, folder: str, outcomes: MakeOutcomes | None) -> None:
        """folder: the driver's working folder, which relative paths in the models' specs start from."""
        model_folder(folder)
        self.config, self.outcomes = config, outcomes
        self._engine: LocalEngine | None = None
        self._open: dict[int, tuple[asyncio.Task[Searched], Budget]] = {}

    async def start(self, executors: Sequence[Any] = ()) -> Ready:
        """Load the models and start the executor (or use the remote ones). UserError and BackendError as they come."""
        notes: list[str] = []
        handler = _Notes(notes)
        logging.getLogger("rstar_eval").addHandler(handler)
        try:
            remote = await RemoteExecutor.connect(executors) if executors else None
            self._engine = await start_local(self.config, notes.append, self.outcomes, remote)
        finally:
            logging.getLogger("rstar_eval").removeHandler(handler)
        import ray

        return Ready(
            self._engine.width, dict(self._engine.describe()), socket.gethostname(),
            ray.get_runtime_context().get_node_id(), os.getpid(), __version__, platform.python_version(), tuple(notes),
        )  # fmt: skip

    async def search(self, number: int, subject: Question | Problem, tree: int) -> Searched:
        """Do one search; `number` names it for `cancel`. Cut if it was cancelled, else as Engine.search."""
        assert self._engine is not None, "start comes first"
        problem = subject if isinstance(subject, Problem) else None
        question = subject.question if isinstance(subject, Problem) else subject
        spent = Budget()
        task = asyncio.create_task(self._engine.search_for(question, problem, tree, spent))
        self._open[number] = task, spent
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled():
                raise Cut(str(number)) from None
            raise
        finally:
            del self._open[number]

    async def cancel(self, number: int) -> Budget:
        """End a search and return what it had spent (nothing if it is not open)."""
        if number not in self._open:
            return Budget()
        task, spent = self._open[number]
        task.cancel()
        await asyncio.wait([task])
        return spent

    async def ping(self) -> int:
        """Return the number of open searches: the worker's event loop is alive."""
        return len(self._open)

    async def close(self) -> None:
        """End all searches and release models and executor."""
        tasks = [task for task, _ in self._open.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._engine is not None:
            await self._engine.close()


class _Notes(logging.Handler):
    """Keeps warnings (a weaker sandbox than wanted, say), which would be lost in a worker's log."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one warning as a line."""
        self._notes.append(" ".join(record.getMessage().split()))
