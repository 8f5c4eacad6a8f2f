"""Starting an executor: which isolation level, how many workers, and what the manifest says of it."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.executor import levels
from rstar_eval.solver.executor.levels import LAYERS, LEVELS, PROMISES, Layer, Level, LevelReport, Limits
from rstar_eval.solver.executor.plain import PlainSource
from rstar_eval.solver.executor.pool import Pool, Source
from rstar_eval.solver.executor.session import Session
from rstar_eval.solver.executor.zygote_client import CageError, ZygoteClient, start_zygote

log = logging.getLogger(__name__)


class StepExecutor:
    """Runs steps at one isolation level (`Executor`). Made by `start_executor`."""

    def __init__(
        self, level: Level, layers: tuple[Layer, ...], pool: Pool, limits: Limits, running: int, live: int
    ) -> None:
        self.level: str = level
        self.layers, self.limits = layers, limits
        self.pool = pool
        self._running, self._live = running, live
        self._sessions: set[Session] = set()

    async def open(self, key: str, *, always_strict: bool = False) -> Session:
        """Open a problem; `key` names it in diagnostics only. `always_strict` runs every step in an own worker."""
        return Session(key, self.pool, self.limits, always_strict=always_strict)

    def describe(self) -> Mapping[str, object]:
        """Return the isolation level, its promise and layers, the limits, and the versions that steps run on."""
        return {
            "level": self.level,
            "promise": PROMISES[levels.as_level(self.level)],
            "layers": {layer.name: layer.detail for layer in self.layers},
            "cpu_seconds": self.limits.cpu_seconds,
            "wall_seconds": self.limits.cpu_seconds * self.limits.wall_factor,
            "memory_mb": self.limits.memory_mb,
            "running": self._running,
            "live": self._live,
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in levels.PACKAGES},
        }

    def counts(self) -> Mapping[str, int]:
        """Return what happened so far: requests, workers made, replays, strict steps, kills, restarts."""
        return dict(self.pool.counts)

    async def close(self) -> None:
        """Stop all workers. May be called twice."""
        await self.pool.close()


async def start_executor(
    isolation: Level | str | None = None,
    *,
    workers: int | None = None,
    live_workers: int | None = None,
    zygotes: int | None = None,
    limits: Limits | None = None,
    step_seconds: float | None = None,
    memory_mb: int | None = None,
    observe: bool = False,
) -> StepExecutor:
    """Start an executor at exactly `isolation`, or at the strongest level that this machine gives (None).

    workers: steps that run at once (default: the cores this process may use). live_workers: worker processes that
    exist at once, idle ones included (default: 16 a core, at least 64). zygotes: default one for 8 workers.
    step_seconds, memory_mb: shorthands for `limits.cpu_seconds` and `limits.memory_mb`.
    observe: count the system calls that the cage denies (diagnosis; `pool.sources[i].denied`).
    UserError if a demanded level cannot be had, naming the missing layer and the mend.
    """
    limits = limits or Limits()
    if step_seconds is not None:
        limits = replace(limits, cpu_seconds=step_seconds)
    if memory_mb is not None:
        limits = replace(limits, memory_mb=memory_mb)
    running = workers if workers is not None else _cores()
    if running < 1:
        raise UserError(f"workers is {running}", "give at least 1")
    live = live_workers if live_workers is not None else max(64, 16 * running)
    idle_bytes = _memory_bytes() // (2 * live)
    count = zygotes if zygotes is not None else max(1, running // 8)
    wanted = (levels.as_level(isolation),) if isolation is not None else LEVELS
    refusals: list[CageError] = []
    for level in wanted:
        if level == "accidents-only":
            log.warning("steps run WITHOUT a cage (isolation accidents-only): %s", PROMISES[level])
            plain = PlainSource(limits)

            async def another_plain() -> Source:
                return PlainSource(limits)

            return StepExecutor(level, (), Pool([plain], another_plain, running, live), limits, running, live)
        try:
            if isolation is None:
                await probe(level, limits)
            started = await asyncio.gather(
                *(start_zygote(level, limits, observe=observe, idle_bytes=idle_bytes) for _ in range(count))
            )
        except CageError as refusal:
            refusals.append(refusal)
            continue

        async def another(level: Level = level) -> Source:
            try:
                return await start_zygote(level, limits, observe=observe, idle_bytes=idle_bytes)
            except CageError as error:
                raise BackendError(f"the executor could not be started again: {error}") from None

        for missing in refusals:
            log.warning("%s; steps run at level %s", missing, level)
        return StepExecutor(
            level, started[0].layers, Pool(list(started), another, running, live), limits, running, live
        )
    raise UserError(str(refusals[0]), refusals[0].mend)


async def probe(level: Level, limits: Limits | None = None) -> tuple[Layer, ...]:
    """Build and verify a cage at `level` without packages, and take it down again. CageError if a layer is missing."""
    client: ZygoteClient = await start_zygote(level, limits or Limits(), bare=True)
    layers = client.layers
    await client.close()
    return layers


async def probe_levels() -> LevelReport:
    """Return the strongest level that can be had here, and of every layer whether it took, what was seen, the mend."""
    missing: dict[str, Layer] = {}
    for level in LEVELS:
        if level == "accidents-only":
            took: tuple[Layer, ...] = ()
        else:
            try:
                took = await probe(level)
            except CageError as error:
                missing.setdefault(error.layer, Layer(error.layer, False, error.detail, error.mend))
                continue
        names = {layer.name for layer in took}
        absent = [layer for layer in missing.values() if layer.name not in names]
        for name in LAYERS["strong"]:
            if name not in names and name not in missing:
                absent.append(Layer(name, False, "not tried: an earlier layer is missing", ""))
        return LevelReport(level, PROMISES[level], (*took, *absent))
    raise AssertionError("accidents-only is always there")


def _memory_bytes() -> int:
    """Return the machine's memory: idle workers together are kept below half of it."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 << 30


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
