"""Model-written code on other machines: executor workers, which need a CPU each and no GPU.

An executor worker (`ExecutorHost`) has a sandbox of its own and keeps the sessions of many problems. Who searches uses
them through `RemoteExecutor`, an `Executor` like any other. When an executor worker is lost, its sessions are opened on
another one, and what a later step needs of the steps before it is run again there: results are the same, because a
step's result depends on its own code and that of its ancestors alone.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import StepExecutor, start_executor
from rstar_eval.solver.executor.cage.analysis import analyse
from rstar_eval.solver.protocols import ManySession
from rstar_eval.solver.types import StepRun

MAX_MOVES = 10
"""How often a session opens on an executor worker before the search gives up."""
RETRY_SECONDS = 1.0
"""Wait before a session is opened again after an executor worker did not answer: it may be starting again."""


class NoSession(Exception):
    """The executor worker does not know the session: it is another process than the one that opened it."""


class ExecutorHost:
    """An executor worker: a sandbox whose sessions are used over the network."""

    def __init__(self, isolation: str | None, step_seconds: float, live_workers: int) -> None:
        self._settings = isolation, step_seconds, live_workers
        self._executor: StepExecutor | None = None
        self._starting = asyncio.Lock()
        self._sessions: dict[str, ManySession] = {}
        self._token, self._numbers = uuid.uuid4().hex, itertools.count()

    async def describe(self) -> dict[str, Any]:
        """Start the sandbox, if it has not been, and return its description. UserError as `start_executor`."""
        return dict((await self._started()).describe())

    async def open(self, key: str) -> str:
        """Open a problem and return the session's name, which no other executor worker has."""
        executor = await self._started()
        name = f"{self._token}-{next(self._numbers)}"
        self._sessions[name] = await executor.open(key)
        return name

    async def run(self, session: str, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        """Run steps, as ManySession.run_many. NoSession if the session is not this process's."""
        if session not in self._sessions:
            raise NoSession(session)
        return await self._sessions[session].run_many(parent, codes)

    async def close_session(self, session: str) -> None:
        """Forget a problem; nothing happens if it is not known."""
        found = self._sessions.pop(session, None)
        if found is not None:
            await found.close()

    async def close(self) -> None:
        """Stop the sandbox."""
        if self._executor is not None:
            await self._executor.close()

    async def _started(self) -> StepExecutor:
        async with self._starting:
            if self._executor is None:
                isolation, seconds, live = self._settings
                self._executor = await start_executor(isolation, step_seconds=seconds, live_workers=live)
            return self._executor


class RemoteExecutor:
    """An `Executor` whose steps run on executor workers (Ray actor handles of ExecutorHost)."""

    def __init__(self, hosts: Sequence[Any], described: Mapping[str, Any]) -> None:
        self.hosts, self._described = list(hosts), dict(described)
        self.level = str(described["level"])
        self._open = [0] * len(self.hosts)

    @classmethod
    async def connect(cls, hosts: Sequence[Any]) -> RemoteExecutor:
        """Return an executor on `hosts`. UserError if a sandbox can't be had there; BackendError if the executor
        workers give different levels of isolation."""
        described = [await host.describe.remote() for host in hosts]
        levels = sorted({str(one["level"]) for one in described})
        if len(levels) > 1:
            raise BackendError(
                f"executor workers have different isolation levels: {', '.join(levels)}", "demand one with --isolation"
            )
        return cls(hosts, {**described[0], "hosts": len(hosts)})

    async def open(self, key: str) -> RemoteSession:
        """Open a problem on the executor worker that has the fewest sessions of ours."""
        session = RemoteSession(self, key)
        await session.begin()
        return session

    def take(self, but: int | None = None) -> int:
        """Return the number of the host for a new session, not `but` if there is another one."""
        places = [place for place in range(len(self.hosts)) if place != but] or [0]
        chosen = min(places, key=lambda place: self._open[place])
        self._open[chosen] += 1
        return chosen

    def give_back(self, place: int) -> None:
        """A session has left its host."""
        self._open[place] -= 1

    def describe(self) -> Mapping[str, object]:
        """Return the first executor worker's description, and how many there are."""
        return self._described

    async def close(self) -> None:
        """Do nothing: the executor workers are the driver's, and others use them."""


class RemoteSession:
    """The running state of one problem on an executor worker (`ManySession`).

    Its nodes are numbered here; `_there` says which node of the session now open each of them is. After a move nothing
    is there, and a step's ancestors are run again when one of their descendants is asked for.
    """

    def __init__(self, executor: RemoteExecutor, key: str) -> None:
        self._executor, self.key = executor, key
        self._host: int | None = None
        self._name = ""
        self._moves = 0
        self._steps: list[tuple[int | None, str]] = []
        self._numbers: dict[tuple[int | None, int], int] = {}  # (move, node there) -> node here
        self._equal: dict[tuple[int | None, Any], int] = {}  # (parent, syntax tree) -> node here
        self._there: dict[int, int] = {}
        self._moving = asyncio.Lock()

    async def begin(self) -> None:
        """Open the session somewhere."""
        await self._move(0)

    async def run(self, parent: int | None, code: str) -> StepRun:
        """See ExecutorSession."""
        return (await self.run_many(parent, [code]))[0]

    async def run_many(self, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        """See ManySession. BackendError when executor workers are lost again and again."""
        while True:
            move = self._moves
            try:
                place = None if parent is None else await self._place(parent, move)
                runs = await self._ask(place, codes)
            except _Lost:
                await self._move(move)
                continue
            return [self._numbered(run, parent, code, move) for run, code in zip(runs, codes, strict=True)]

    async def close(self) -> None:
        """See ExecutorSession."""
        if self._host is None:
            return
        host, self._host = self._host, None
        self._executor.give_back(host)
        self._executor.hosts[host].close_session.remote(self._name)

    async def _place(self, node: int, move: int) -> int:
        """Return the node's number in the session now open, running it again if it is not there."""
        if self._moves != move:
            raise _Lost
        if node not in self._there:
            parent, code = self._steps[node]
            place = None if parent is None else await self._place(parent, move)
            (run,) = await self._ask(place, [code])
            if self._moves != move:
                raise _Lost
            self._there[node] = run.node
            self._numbers.setdefault((move, run.node), node)
        return self._there[node]

    def _numbered(self, run: StepRun, parent: int | None, code: str, move: int) -> StepRun:
        """Return the run with our own number of its node; an equal step that ran before has the node that it had."""
        key = (move, run.node)
        if key not in self._numbers:
            equal = (parent, analyse(code).key)  # it may have run before a move, and be new where it runs now
            if equal not in self._equal:
                self._steps.append((parent, code))
                self._equal[equal] = len(self._steps) - 1
            self._numbers[key] = self._equal[equal]
        number = self._numbers[key]
        if move == self._moves:
            self._there[number] = run.node
        return replace(run, node=number)

    async def _ask(self, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        from ray.exceptions import RayActorError

        if self._host is None:
            raise ValueError(f"session {self.key!r} is closed")
        try:
            found: list[StepRun] = await self._executor.hosts[self._host].run.remote(self._name, parent, list(codes))
        except (RayActorError, NoSession) as error:
            raise _Lost from error
        return found

    async def _move(self, since: int) -> None:
        """Open the session on a host, another one than before where there is one; once for all who noticed the loss."""
        from ray.exceptions import RayActorError

        async with self._moving:
            if self._moves != since:
                return
            last = self._host
            while True:
                if self._moves >= MAX_MOVES:
                    raise BackendError(
                        f"executor workers were lost {self._moves} times in one search", "see the cluster's logs"
                    )
                self._moves += 1
                if self._host is not None:
                    self._executor.give_back(self._host)
                self._host = self._executor.take(last)
                self._there = {}
                try:
                    self._name = await self._executor.hosts[self._host].open.remote(self.key)
                    return
                except RayActorError:
                    last = self._host
                    await asyncio.sleep(RETRY_SECONDS * self._moves)


class _Lost(Exception):
    """The executor worker of a session is gone."""
