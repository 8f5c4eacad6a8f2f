"""Workers without a cage, for platforms without the kernel layers: one subprocess each, limits, and a kill.

This level survives endless loops, crashes and runaway memory. It does NOT hold hostile code: a step can read and write
what the user can, and use the network. `start_executor` says so when it starts.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from pathlib import Path

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import levels
from rstar_eval.solver.executor.frames import MAX_FRAME, Violation, is_hello
from rstar_eval.solver.executor.levels import Limits
from rstar_eval.solver.executor.worker_client import Answer, Ending, Take

START_SECONDS = 300.0
POLL_SECONDS = 0.05
_BOOT = "import sys; sys.path.insert(0, {folder!r}); from cage import plain; sys.path.pop(0); plain.main()"


class PlainWorker:
    """One subprocess that runs steps, spoken to through its standard input and output."""

    many = False

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._busy = False
        self._killed = False

    @property
    def alive(self) -> bool:
        """Whether this worker can take a request."""
        return not self._killed and self._process.returncode is None

    def runs_on_its_own(self) -> bool:
        """Not told apart at this level."""
        return False

    def is_large(self) -> bool:
        """Not told apart at this level."""
        return False

    def cpu(self) -> float | None:
        """Return the worker's CPU seconds where the platform has the clock (Linux), else None."""
        if sys.platform != "linux":
            return None
        try:
            return time.clock_gettime((~self._process.pid) << 3 | 2)
        except OSError:
            return None

    def kill(self, why: str) -> None:
        """Kill the worker; does not wait."""
        if not self._killed:
            self._killed = True
            if self._process.returncode is None:
                try:
                    self._process.kill()
                except ProcessLookupError:
                    return

    async def receive(self) -> bytes:
        """Return the next frame, b"" if the worker closed or sent something else than frames."""
        assert self._process.stdout is not None
        try:
            (size,) = struct.unpack(">I", await self._process.stdout.readexactly(4))
            if size > MAX_FRAME:
                return b""
            return await self._process.stdout.readexactly(size)
        except asyncio.IncompleteReadError:
            return b""

    async def exchange(self, request: bytes, cpu: float, wall: float, steps: int, take: Take) -> Answer:
        """Send one request of one step and give its frame to `take`; it may use `cpu` CPU seconds where they can be
        read, else `wall`."""
        assert self._process.stdin is not None
        base = self.cpu()
        begun = time.monotonic()
        try:
            self._process.stdin.write(struct.pack(">I", len(request)) + request)
            await self._process.stdin.drain()
        except OSError:
            return Answer(await self._ended(), 0.0)
        frame = asyncio.ensure_future(self.receive())
        try:
            while not (await asyncio.wait({frame}, timeout=POLL_SECONDS))[0]:
                now = self.cpu()
                spent = time.monotonic() - begun if now is None or base is None else now - base
                if spent > (wall if now is None else cpu) or time.monotonic() - begun > wall:
                    self.kill("cpu")
                    return Answer(Ending("timeout", "time limit exceeded"), spent)
        except asyncio.CancelledError:
            self.kill("cancelled")
            raise
        finally:
            if not frame.done():
                frame.cancel()
        now = self.cpu()
        used = max(0.0, now - base) if now is not None and base is not None else time.monotonic() - begun
        data = frame.result()
        try:
            if data and take(data):
                return Answer(None, used)
        except Violation as violation:
            self.kill("violation")
            return Answer(Ending("violation", str(violation)), used)
        return Answer(await self._ended(), used)

    async def _ended(self) -> Ending:
        self.kill("closed")
        code = await self._process.wait()
        return Ending("killed", f"the worker ended with code {code}")


class PlainSource:
    """Makes plain workers, by exec, one interpreter each."""

    def __init__(self, limits: Limits) -> None:
        self.lost = False
        self._limits = limits
        self._processes: list[asyncio.subprocess.Process] = []

    async def fork(self, number: int) -> PlainWorker:
        """Start a worker. BackendError if it does not come up."""
        self._processes = [process for process in self._processes if process.returncode is None]
        folder = str(Path(__file__).parent)
        program = _BOOT.format(folder=folder)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-s", "-P", "-B", "-c", program,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=_environment(), limit=2 * MAX_FRAME,
        )  # fmt: skip
        self._processes.append(process)
        worker = PlainWorker(process)
        _, sites = levels.package_folders()
        settings = {"site": sites, "names": list(levels.PACKAGES), "memory": self._limits.memory_mb << 20}
        data = json.dumps(settings).encode()
        assert process.stdin is not None
        process.stdin.write(struct.pack(">I", len(data)) + data)
        try:
            hello = await asyncio.wait_for(worker.receive(), START_SECONDS)
        except (OSError, TimeoutError):
            hello = b""
        if not is_hello(hello):
            worker.kill("no greeting")
            raise BackendError("a worker without a cage did not start")
        return worker

    async def close(self) -> None:
        """End all workers and wait until they are gone."""
        self.lost = True
        for process in self._processes:
            if process.returncode is None:
                try:
                    process.kill()
                except ProcessLookupError:  # it has just ended by itself
                    continue
        for process in self._processes:
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]
        self._processes.clear()


def _environment() -> dict[str, str]:
    import os

    from rstar_eval.solver.executor.zygote_client import environment

    # Windows cannot start a process without these two.
    return environment() | {name: os.environ[name] for name in ("SYSTEMROOT", "PATH") if name in os.environ}
