"""A pool of worker processes for work that may hang, crash, or eat memory.

The clock of a pair starts when a ready worker gets it, not while it waits or while a worker starts, and counts the
worker's processor time, so that verdicts don't depend on how busy the machine is (up to four times as much by the wall
clock; without /proc the wall clock alone). At its end the worker is killed and another one takes its place. No signals
are used in this process, and no fork of a threaded process: workers are started as fresh interpreters. Safe to use from
threads, from asyncio through `asyncio.to_thread`, and from Ray actors.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.grading.types import Outcome

_START_SECONDS = 120.0
_TRIES, _STARTS = 3, 5
_WALL = 4.0  # wall-clock seconds that a second of the clock may take
_BOOT = (
    "import sys; sys.path[:0] = {paths!r}; sys.argv = ['worker', {memory!r}]; "
    "from rstar_eval.grading.worker import main; main()"
)
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answered, or what became of it; `ms` is the time of the work alone."""

    outcome: Outcome
    rule: str
    detail: str = ""
    ms: float = 0.0


class WorkerGone(Exception):
    """A worker ended while it should have answered."""


class _Worker:
    """One worker process and the pipes to it. Used by one thread at a time."""

    def __init__(self, memory: int) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        boot = _BOOT.format(paths=[path for path in sys.path if path], memory=str(memory))
        self.process = subprocess.Popen(
            [sys.executable, "-c", boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        self.buffer = b""
        self.jobs = 0

    def wait_ready(self) -> None:
        """Wait until the libraries are loaded. WorkerGone if it ends, or takes longer than two minutes."""
        if self.receive(_START_SECONDS) is None:
            self.kill()
            raise WorkerGone("a grading worker didn't start in time")

    def send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise WorkerGone(self.fate()) from None

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next answer, or None when time is up. WorkerGone if the process ended."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        end = time.monotonic() + seconds
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLHUP)
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                return None
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise WorkerGone(self.fate())
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """Return the answer to what was sent, or None when it has taken `seconds`. WorkerGone if the process ended."""
        begin, used = time.monotonic(), self.processor_seconds()
        left = seconds
        while left > 0:
            found = self.receive(left)
            if found is not None or used is None:
                return found
            now = self.processor_seconds()
            spent = seconds if now is None else now - used
            left = min(max(0.02, seconds - spent), begin + _WALL * seconds - time.monotonic())
            if spent >= seconds:
                break
        return None

    def processor_seconds(self) -> float | None:
        """The processor time of the worker so far; None where the system doesn't tell."""
        try:
            with open(f"/proc/{self.process.pid}/stat", "rb") as handle:
                fields = handle.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fate(self) -> str:
        code = self.process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # unsent input of a dead worker


class GraderPool:
    """Worker processes for symbolic grading, started when first needed.

    workers: how many pairs run at once. seconds: the clock of one pair. memory: address space of a worker, in bytes.
    jobs: a worker is replaced after so many pairs, since sympy's caches grow.

        with GraderPool(workers=2) as pool:
            reply = pool.run("math_verify", gold, pred)
    """

    def __init__(self, workers: int = 1, seconds: float = 2.0, memory: int = 3 << 29, jobs: int = 5_000) -> None:
        if workers < 1 or seconds <= 0 or memory < 1 << 28 or jobs < 1:
            raise UserError(
                f"grader pool of {workers} workers, {seconds} seconds, {memory} bytes, {jobs} jobs",
                "give at least 1 worker, a positive time, 268435456 bytes (256 MiB) and 1 job",
            )
        self.seconds = seconds
        self._memory = memory
        self._jobs = jobs
        self._slots = threading.Semaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        self._owner = os.getpid()

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, method: str, gold: str, pred: str, seconds: float | None = None) -> Reply:
        """Run one pair in a worker; blocks until a worker is free and has answered or was killed.

        Never raises for what the pair does: time, memory, a crash give outcome `grader_error` with rule `timeout`,
        `memory`, `crash`, `exception` or `recursion`. A worker that is killed from outside (SIGKILL, which no pair can
        send itself: the kernel's or an operator's) is no verdict on the pair, which is tried again, three times in
        all; workers that end while they start are replaced four times. RuntimeError if the pool is closed.
        """
        limit = self.seconds if seconds is None else seconds
        began, starts, tries = time.perf_counter(), 0, 0
        with self._slots:
            while True:
                try:
                    worker = self._take()
                except WorkerGone as gone:  # as it started, so that the pair has no part in it
                    starts += 1
                    if starts == _STARTS:
                        return Reply("grader_error", "crash", str(gone), (time.perf_counter() - began) * 1000)
                    continue
                tries += 1
                reply = self._try(worker, method, gold, pred, limit, last=tries == _TRIES)
                if reply is not None:
                    return reply

    def _try(self, worker: _Worker, method: str, gold: str, pred: str, limit: float, *, last: bool) -> Reply | None:
        """Run one pair in `worker`; None if it was killed from outside, and this is not the `last` try."""
        start = time.perf_counter()
        try:
            worker.send({"method": method, "gold": gold, "pred": pred, "seconds": _WALL * limit})
            answer = worker.answer(limit)
        except WorkerGone as gone:
            self._drop(worker)
            if worker.process.returncode == -signal.SIGKILL and not last:
                return None
            return Reply("grader_error", "crash", str(gone), (time.perf_counter() - start) * 1000)
        except BaseException:
            self._drop(worker)
            raise
        if answer is None:
            self._drop(worker)
            return Reply("grader_error", "timeout", f"more than {limit:g} s", (time.perf_counter() - start) * 1000)
        if answer["rule"] in ("memory", "recursion"):
            self._drop(worker)
        else:
            self._put(worker)
        return Reply(answer["outcome"], answer["rule"], answer.get("detail", ""), answer["ms"])

    def start(self) -> None:
        """Start one worker now and wait until it is ready, so that the first pair needn't wait."""
        self._put(self._take())

    def close(self) -> None:
        """End all workers. May be called twice."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.kill()

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RuntimeError("the grader pool is closed")
            if self._owner != os.getpid():  # after a fork of the caller: its workers are the parent's
                self._idle, self._busy, self._owner = [], set(), os.getpid()
            worker = next((item for item in reversed(self._idle) if item.process.poll() is None), None)
            if worker is not None:
                self._idle.remove(worker)
                self._busy.add(worker)
                return worker
        worker = _Worker(self._memory)
        with self._lock:
            self._busy.add(worker)
        try:
            worker.wait_ready()
        except BaseException:
            self._drop(worker)
            raise
        return worker

    def _put(self, worker: _Worker) -> None:
        worker.jobs += 1
        with self._lock:
            self._busy.discard(worker)
            if not self._closed and worker.jobs < self._jobs:
                self._idle.append(worker)
                return
        worker.kill()

    def _drop(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
        worker.kill()


_shared: GraderPool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> GraderPool:
    """Return this process's pool, made at the first call and closed at exit."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared._owner != os.getpid():
            _shared = GraderPool(workers=max(1, min(4, (os.cpu_count() or 2) // 2)))
            atexit.register(_shared.close)
        return _shared
