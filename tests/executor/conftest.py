"""One executor for the tests of this folder, at the strongest level of the machine, and a loop to drive it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from rstar_eval.solver.executor import Limits, StepExecutor, start_executor
from rstar_eval.solver.executor.session import Session
from rstar_eval.solver.types import StepRun

T = TypeVar("T")


class Cage:
    """An executor and the event loop it lives on, for tests that are not coroutines themselves."""

    def __init__(self, isolation: str | None = None, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.executor: StepExecutor = self.do(start_executor(isolation, **options))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self, key: str = "test", **options: Any) -> Session:
        return self.do(self.executor.open(key, **options))

    def run(self, session: Session, parent: int | None, code: str) -> StepRun:
        return self.do(session.run(parent, code))

    def chain(self, session: Session, *codes: str) -> StepRun:
        """Run steps one after another; returns the last one's run."""
        parent: int | None = None
        for code in codes:
            run = self.run(session, parent, code)
            parent = run.node
        return run

    def one(self, *codes: str) -> StepRun:
        """Run steps one after another in a problem of their own."""
        session = self.open()
        try:
            return self.chain(session, *codes)
        finally:
            self.do(session.close())

    def close(self) -> None:
        self.do(self.executor.close())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="session")
def cage() -> Iterator[Cage]:
    made = Cage(limits=Limits(cpu_seconds=1.0, wall_factor=1.5, memory_mb=300))
    if made.executor.level == "accidents-only":
        made.close()
        pytest.skip("no cage can be had on this machine (see rstar-eval doctor)")
    yield made
    made.close()
