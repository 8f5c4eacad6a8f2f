"""The harness's end of a zygote: start it by exec, demand the level, ask for workers, hear of their deaths."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import levels
from rstar_eval.solver.executor.frames import MAX_FRAME, is_hello
from rstar_eval.solver.executor.levels import Layer, Level, Limits
from rstar_eval.solver.executor.worker_client import CagedWorker

log = logging.getLogger(__name__)

START_SECONDS = 300.0
STARTS = 3
"""How often a zygote is started that ends at once and without a word."""
HELLO_SECONDS = 120.0
FORK_SECONDS = 30.0
_BOOT = "import sys; sys.path.insert(0, {folder!r}); from cage import zygote; sys.path.pop(0); zygote.main()"
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class CageError(Exception):
    """A cage that could not be built at the demanded level: the first layer that failed, and the ones that took."""

    def __init__(self, level: Level, layer: str, detail: str, took: tuple[Layer, ...]) -> None:
        super().__init__(f"isolation level {level} is not available here: {layer}: {detail}")
        self.level, self.layer, self.detail, self.took = level, layer, detail, took

    @property
    def mend(self) -> str:
        """What the user can do about the missing layer."""
        return levels.MENDS.get(self.layer, "")


def environment() -> dict[str, str]:
    """Return the zygote's whole environment: nothing of the harness's."""
    fixed = {"PYTHONHASHSEED": "0", "SYMPY_GROUND_TYPES": "python", "MPMATH_NOGMPY": "1", "LC_ALL": "C.UTF-8"}
    return fixed | dict.fromkeys(_THREADS, "1")


class ZygoteClient:
    """One running zygote. `on_lost` is called once when it ends by itself."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, ready: dict[str, Any], idle_bytes: int
    ) -> None:
        self.process, self._control = process, control
        self.layers = tuple(Layer(item["name"], True, item["detail"]) for item in ready["layers"])
        self.resident_bytes = int(ready["resident"])
        self.idle_bytes = idle_bytes
        self.lost = False
        self.denied: Counter[str] = Counter()
        self.on_lost: Callable[[], None] | None = None
        self._workers: dict[int, CagedWorker] = {}
        self._deaths: dict[int, dict[str, Any]] = {}
        self._outbox: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control.fileno(), self._hear)

    async def fork(self, number: int) -> CagedWorker:
        """Return a new worker. BackendError if the zygote is gone or the worker does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            await self._ask(json.dumps({"op": "fork", "worker": number}).encode(), theirs)
            theirs.close()
            pid = await asyncio.wait_for(self._greeting(ours), HELLO_SECONDS)
        except (OSError, TimeoutError) as error:
            ours.close()
            raise BackendError(f"a worker did not start: {error or 'no greeting'}") from None
        finally:
            theirs.close()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        worker = CagedWorker(self, number, ours, pid)
        self._workers[number] = worker
        if number in self._deaths:
            self._dead(self._deaths[number])
        return worker

    async def _ask(self, data: bytes, handle: socket.socket) -> None:
        """Send a request with a descriptor. A zygote that does not read for FORK_SECONDS is ended: OSError."""
        deadline = self._loop.time() + FORK_SECONDS
        while not self.lost:
            try:
                socket.send_fds(self._control, [data], [handle.fileno()])
                return
            except BlockingIOError:
                if self._loop.time() > deadline:
                    self.process.kill()
                    self._end()
                    raise OSError("the zygote does not read its requests") from None
                await asyncio.sleep(0.02)
            except OSError:
                self._end()
                raise
        raise OSError("the zygote is gone")

    async def _greeting(self, sock: socket.socket) -> int:
        """Read a worker's hello with the kernel's word on who sent it; returns the pid in our own namespace."""
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), _settle, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(sock.fileno())
        data, extra, _, _ = sock.recvmsg(MAX_FRAME, socket.CMSG_SPACE(12))
        if not is_hello(data):
            raise OSError("its cage did not hold" if not data else "it sent something else than a greeting")
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = int(struct.unpack("iII", content[:12])[0])
                if pid > 0:
                    return pid
        raise OSError("its process id is not visible")

    def watch(self, worker: CagedWorker, base: float, cpu: float, wall: float, steps: int) -> None:
        """Ask the zygote to kill `worker` when one of the `steps` that began at `base` of its CPU clock takes more than
        `cpu` seconds, or sleeps for more than `wall`."""
        message = {"op": "watch", "worker": worker.number, "base": base, "cpu": cpu, "wall": wall, "steps": steps}
        self._tell(message)

    def unwatch(self, worker: CagedWorker) -> None:
        """The request is answered: stop watching."""
        self._tell({"op": "unwatch", "worker": worker.number})

    def kill(self, worker: CagedWorker, why: str) -> None:
        """Have a worker killed; `worker.death` tells when it is."""
        if not worker.death.done():
            self._tell({"op": "kill", "worker": worker.number, "why": why})

    def _tell(self, message: dict[str, Any]) -> None:
        """Send a message that needs no answer, later if the socket is full."""
        data = json.dumps(message).encode()
        if self.lost:
            return
        if self._outbox:
            self._outbox.append(data)
            return
        try:
            self._control.send(data)
        except BlockingIOError:
            self._outbox.append(data)
            self._loop.add_writer(self._control.fileno(), self._drain)
        except OSError:
            self._end()

    def _drain(self) -> None:
        try:
            while self._outbox:
                self._control.send(self._outbox[0])
                self._outbox.pop(0)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        self._loop.remove_writer(self._control.fileno())

    def _hear(self) -> None:
        try:
            data = self._control.recv(MAX_FRAME)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._dead(json.loads(data))

    def _dead(self, message: dict[str, Any]) -> None:
        number = message["dead"]
        self.denied.update(message.get("denied", {}))
        worker = self._workers.pop(number, None)
        if worker is None:  # it died before its greeting was read
            self._deaths[number] = message
            return
        self._deaths.pop(number, None)
        if not worker.death.done():
            worker.death.set_result(message)

    def _end(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()
        for worker in self._workers.values():
            if not worker.death.done():
                worker.death.set_result({"dead": worker.number, "why": "zygote", "exit": 0})
        self._workers.clear()
        if self.on_lost is not None:
            self.on_lost()

    async def close(self) -> None:
        """End the zygote and with it its workers; waits until it is gone."""
        self.on_lost = None
        for worker in self._workers.values():
            worker.close()
        self._end()
        for attempt in range(200):
            if self.process.poll() is not None:
                return
            if attempt == 100:
                self.process.kill()
            await asyncio.sleep(0.02)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def start_zygote(
    level: Level, limits: Limits, *, bare: bool = False, observe: bool = False, idle_bytes: int = 256 << 20
) -> ZygoteClient:
    """Start a zygote at exactly `level` and return it when every layer has been verified. One that is killed from
    outside while it starts (it ends without a word) is started again, STARTS times in all.

    A worker that holds more than `idle_bytes` above the zygote's own memory is not kept idle. `observe` has denied
    system calls counted (see `ZygoteClient.denied`). `bare` leaves out packages and warm-up: enough to learn whether
    the level can be had. CageError if a layer is missing; BackendError if the process does not come up.
    """
    if sys.platform != "linux":
        raise CageError(level, "seccomp", f"{sys.platform} has no such layer", ())
    for left in reversed(range(STARTS)):
        try:
            return await _start_once(level, limits, bare, observe, idle_bytes)
        except _Silent:
            if not left:
                raise
            log.warning("the executor's zygote ended while it started; starting another one")
    raise AssertionError("STARTS is at least 1")


class _Silent(BackendError):
    """A zygote ended while it started, and neither it nor its interpreter said why."""


async def _start_once(level: Level, limits: Limits, bare: bool, observe: bool, idle_bytes: int) -> ZygoteClient:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folders, sites = ([], []) if bare else levels.package_folders()
    settings = {
        "level": level, "paths": folders, "site": sites, "names": [] if bare else list(levels.PACKAGES),
        "memory": limits.memory_mb << 20, "warm": not bare, "namespaces": levels.namespaces_now(), "observe": observe,
    }  # fmt: skip
    boot = _BOOT.format(folder=str(Path(__file__).parent))
    with tempfile.TemporaryFile() as errors:
        process = _spawn(boot, theirs, errors)
        theirs.close()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(ours, json.dumps(settings).encode())
            data = await asyncio.wait_for(loop.sock_recv(ours, MAX_FRAME), START_SECONDS)
        except TimeoutError:
            data, reason, ended = b"", f"no answer within {START_SECONDS:.0f} s", False
        except OSError as error:  # it ended before it was asked
            data, reason, ended = b"", str(error), True
        else:
            reason, ended = "it ended without a word", True
        message = json.loads(data) if data else {}
        if message.get("ready") is True:
            client = ZygoteClient(process, ours, message, idle_bytes)
            missing = set(levels.LAYERS[level]) - {layer.name for layer in client.layers}
            if not missing:
                return client
            await client.close()
            raise CageError(level, sorted(missing)[0], "not reported as verified", client.layers)
        ours.close()
        process.kill()
        process.wait()
        if "fatal" in message:
            fatal = message["fatal"]
            took = tuple(Layer(item["name"], True, item["detail"]) for item in fatal["layers"])
            raise CageError(level, fatal["layer"], fatal["detail"], took)
        errors.seek(0)
        tail = errors.read()[-400:].decode(errors="replace")
        raise (_Silent if ended and not tail else BackendError)(f"the executor's zygote did not start: {reason} {tail}")


def _spawn(boot: str, channel: socket.socket, errors: Any) -> subprocess.Popen[bytes]:
    """Exec the interpreter with an empty environment and no descriptor but the channel, as number 3."""
    program = f"import os; os.dup2({channel.fileno()}, 3); {boot}"
    return subprocess.Popen(
        [os.path.abspath(sys.executable), "-S", "-s", "-P", "-B", "-c", program],
        env=environment(),
        cwd="/",
        close_fds=True,
        pass_fds=(channel.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
