"""The harness's end of one caged worker: a request, its one answer, or how the worker ended instead."""

from __future__ import annotations

import asyncio
import mmap
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rstar_eval.solver.executor.frames import MAX_FRAME, Violation
from rstar_eval.solver.types import RunStatus

if TYPE_CHECKING:
    from rstar_eval.solver.executor.zygote_client import ZygoteClient

WATCH_AFTER = 0.05
"""Seconds after which a step is put under the zygote's watch. The CPU time before counts all the same."""
IDLE_CPU = 0.03
"""CPU seconds that an idle worker may use before it counts as running on its own."""
LARGE_CPU = 0.01
"""CPU seconds of a request after which the worker's memory is looked at."""
DEATH_SECONDS = 10.0
CLOSED_SECONDS = 0.25
_PAGE = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended instead of answering: the step's status, and a sentence. `ours`: the step is not to blame
    (the zygote was lost), so the request may be made again."""

    status: RunStatus
    reason: str
    ours: bool = False


Take = Callable[[bytes], bool]
"""Takes one frame and returns whether it was the last one of the request. Raises `Violation` for a frame that no honest
worker sends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request went: None or how the worker ended before its last frame, the CPU seconds that the kernel counted
    from request to answer, and which of the request's steps ran at the end (None: not known)."""

    ending: Ending | None
    cpu: float
    step: int | None = None


class CagedWorker:
    """A live worker: its socket, its pid as the harness sees it, and what is known of its end."""

    many = True

    def __init__(self, zygote: ZygoteClient, number: int, sock: socket.socket, pid: int) -> None:
        self.zygote, self.number, self.pid = zygote, number, pid
        self.death: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.unasked = False
        self._sock, self._closed = sock, False
        self._clock = (~pid) << 3 | 2
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._asked = False
        self._frames: deque[bytes] = deque()
        self._last_cpu = 0.0
        self._idle_clock = time.clock_gettime(self._clock)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def alive(self) -> bool:
        """Whether this worker can take a request, as far as is known."""
        return not (self._closed or self.unasked or self.death.done())

    def cpu(self) -> float:
        """Return the CPU seconds this worker has used, from the kernel; 0 once it is gone."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def is_large(self) -> bool:
        """Return whether the worker holds so much memory that it should not be kept idle.

        Looked at only after a request that took some CPU time: memory cannot be filled without.
        """
        if self._last_cpu < LARGE_CPU:
            return False
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                pages = int(file.read().split()[1])
        except OSError:
            return True
        return pages * _PAGE > self.zygote.resident_bytes + self.zygote.idle_bytes

    def runs_on_its_own(self) -> bool:
        """Return whether the worker has used CPU time since its last answer: a step forged the answer and goes on."""
        return not self._asked and self.cpu() - self._idle_clock > IDLE_CPU

    def _readable(self) -> None:
        try:
            data = self._sock.recv(MAX_FRAME + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not self._asked:  # a frame nobody asked for, or the channel closed between requests
            self.unasked = True
            self._loop.remove_reader(self._sock.fileno())
            return
        if not data:
            self._loop.remove_reader(self._sock.fileno())
        self._frames.append(data)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _frame(self) -> bytes:
        """Return the next frame of the request under way, b"" if the worker has closed."""
        if not self._frames:
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._frames.popleft()

    async def exchange(self, request: bytes, cpu: float, wall: float, steps: int, take: Take) -> Answer:
        """Send one request of `steps` steps and give its frames to `take` until that has the last one. The zygote ends
        the worker when a step takes more than `cpu` CPU or `wall` seconds asleep."""
        base = self.cpu()
        self._asked = True
        try:
            self._sock.send(request)
        except OSError:
            return Answer(await self._ended(), 0.0)
        timer = self._loop.call_later(WATCH_AFTER, self.zygote.watch, self, base, cpu, wall, steps)
        try:
            while (data := await self._frame()) and not take(data):
                pass
        except Violation as violation:
            used = max(0.0, self.cpu() - base)
            self.kill("violation")
            return Answer(Ending("violation", str(violation)), used)
        except asyncio.CancelledError:
            self.kill("cancelled")
            raise
        finally:
            timer.cancel()
        if not data:
            ending = await self._ended()
            death: dict[str, Any] = self.death.result() if self.death.done() else {"cpu": self.cpu()}
            return Answer(ending, max(0.0, death.get("cpu", 0.0) - base), death.get("step"))
        self._asked, self.unasked = False, bool(self._frames)
        self._idle_clock = self.cpu()
        used = self._last_cpu = max(0.0, self._idle_clock - base)
        if timer.when() <= self._loop.time():
            self.zygote.unwatch(self)
        return Answer(None, used)

    async def _ended(self) -> Ending:
        """Return why the channel closed. A worker that lives on without its channel is killed for it."""
        message = await self._death_within(CLOSED_SECONDS)
        if message is None:
            self.kill("closed")
            message = await self._death_within(DEATH_SECONDS)
        self.close()
        if message is None:
            return Ending("killed", "the worker is gone and its end was not reported")
        return describe(message)

    async def _death_within(self, seconds: float) -> dict[str, Any] | None:
        try:
            return await asyncio.wait_for(asyncio.shield(self.death), seconds)
        except TimeoutError:
            return None

    def kill(self, why: str) -> None:
        """Kill the worker and close its channel; does not wait."""
        self.close()
        self.zygote.kill(self, why)

    def close(self) -> None:
        """Close our end. May be called twice."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


def describe(message: dict[str, Any]) -> Ending:
    """Map the zygote's report of a death to an `Ending`."""
    why, code = message["why"], message.get("exit", 0)
    if why == "cpu":
        return Ending("timeout", "CPU time limit exceeded")
    if why == "wall":
        return Ending("timeout", "wall time limit exceeded")
    if why == "zygote":
        return Ending("killed", "the zygote was lost", ours=True)
    if why == "fork":
        return Ending("killed", f"no worker could be forked: {message.get('detail', '')}", ours=True)
    if why == "closed" and code == -signal.SIGKILL:
        return Ending("violation", "the step closed the worker's channel")
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        status: RunStatus = "violation" if code == -signal.SIGSYS else "killed"
        return Ending(status, f"the worker was ended by {name}")
    return Ending("killed", f"the worker ended itself with exit code {code}")
