"""What goes wrong around the cage: killed zygotes and workers, full pipes, closed descriptors. The harness goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import BackendError
from rstar_eval.solver.executor import Limits, StepExecutor, start_executor, zygote_client
from rstar_eval.solver.executor.levels import LAYERS
from rstar_eval.solver.executor.pool import Pool
from rstar_eval.solver.executor.session import Session
from rstar_eval.solver.executor.zygote_client import CageError, start_zygote

from .conftest import do, zygotes


def until_gone(but: set[int], seconds: float = 20) -> set[int]:
    """Return what is left of the started processes, other than `but`, after waiting for them to go."""
    deadline = time.monotonic() + seconds
    while (left := set(zygotes()) - but) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(level: str, loop: asyncio.AbstractEventLoop) -> Iterator[StepExecutor]:
    made = do(loop, start_executor(level, workers=2, limits=Limits(cpu_seconds=2.0, wall_factor=0.75)))
    yield made
    do(loop, made.close())


@pytest.fixture
def executor(shared: StepExecutor, loop: asyncio.AbstractEventLoop) -> StepExecutor:
    """The shared executor, with its counts set back and no idle worker of an earlier test."""
    for domain in list(shared.pool._idle):
        shared.pool.discard(domain)
    shared.pool.counts.clear()
    return shared


def _fill(sock: socket.socket) -> None:
    while True:
        sock.send(b'{"op": "unwatch", "worker": 0}')


def worker_pid(executor: StepExecutor) -> int:
    (domain,) = executor.pool._idle
    return int(domain.worker.pid)  # type: ignore[union-attr]


def test_a_killed_zygote_is_replaced_and_states_are_rebuilt(
    executor: StepExecutor, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    session = do(loop, executor.open("a"))
    first = do(loop, session.run(None, "x = 20"))
    for pid in zygotes():
        with contextlib.suppress(ProcessLookupError):  # one that ends with another that was killed before it
            os.kill(pid, signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        second = do(loop, session.run(first.node, "print(x + 1)"))
    assert (second.status, second.output) == ("ok", "21\n")
    assert executor.counts()["zygote_restarts"] == 1
    assert "zygote was lost" in caplog.text


def test_a_zygote_killed_during_a_step_does_not_fail_the_step(
    executor: StepExecutor, loop: asyncio.AbstractEventLoop
) -> None:
    session = do(loop, executor.open("a"))

    async def work() -> str:
        task = asyncio.ensure_future(session.run(None, "t = 0\nfor i in range(10**7): t += 1\nprint(t)"))
        await asyncio.sleep(0.15)
        for pid in zygotes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return (await task).output

    assert do(loop, work()) == "10000000\n"


def test_a_killed_worker_is_replaced(executor: StepExecutor, loop: asyncio.AbstractEventLoop) -> None:
    session = do(loop, executor.open("a"))
    first = do(loop, session.run(None, "x = 20"))
    os.kill(worker_pid(executor), signal.SIGKILL)
    assert do(loop, session.run(first.node, "print(x + 1)")).output == "21\n"


def test_a_stopped_worker_is_a_timeout(executor: StepExecutor, loop: asyncio.AbstractEventLoop) -> None:
    session = do(loop, executor.open("a"))
    first = do(loop, session.run(None, "x = 20"))
    os.kill(worker_pid(executor), signal.SIGSTOP)
    assert do(loop, session.run(first.node, "print(x)")).status == "timeout"
    assert do(loop, session.run(first.node, "print(x + 1)")).output == "21\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.close(3)",
        "import os\nos.closerange(0, 64)",
        "import os\nos.close(3)\nimport time\ntime.sleep(100)",
        "import os\nwhile True: os.write(3, b'x' * 60000)",
        (
            "import os\nos.set_blocking(3, False)\nfor _ in range(10**5):\n"
            "    try: os.write(3, b'x' * 60000)\n    except OSError: pass"
        ),
    ],
    ids=["closes its channel", "closes all", "closes and sleeps", "floods", "floods without waiting"],
)
def test_a_worker_that_breaks_its_channel_fails_alone(
    executor: StepExecutor, loop: asyncio.AbstractEventLoop, code: str
) -> None:
    session = do(loop, executor.open("a"))
    first = do(loop, session.run(None, "x = 20"))
    assert do(loop, session.run(first.node, code)).status in ("killed", "violation")
    assert do(loop, session.run(first.node, "print(x + 1)")).output == "21\n"


def test_a_forged_answer_does_not_buy_time(executor: StepExecutor, loop: asyncio.AbstractEventLoop) -> None:
    code = (
        "import sys, os, json\nframe, nonce = sys._getframe(), ''\nwhile frame:\n"
        "    for value in list(frame.f_locals.values()):\n        if isinstance(value, dict) and 'nonce' in value:\n"
        "            nonce = value['nonce']\n    frame = frame.f_back\n"
        "os.write(3, json.dumps([nonce, ['ok', 'forged', '', '', '', 0]]).encode())\nwhile True: pass"
    )
    session = do(loop, executor.open("a"))
    run = do(loop, session.run(None, code))
    pid = worker_pid(executor) if executor.pool._idle else 0
    do(loop, asyncio.sleep(2.5))
    assert executor.counts()["violations_while_idle"] == 1
    assert pid == 0 or not os.path.exists(f"/proc/{pid}")
    assert do(loop, session.run(run.node, "print(1)")).status in ("ok", "killed", "violation", "timeout")


def test_a_zygote_that_does_not_read_is_replaced(
    executor: StepExecutor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full control socket: asking for a worker fails with a clear error, and the next one comes from a new zygote."""
    monkeypatch.setattr(zygote_client, "FORK_SECONDS", 0.5)
    client: Any = executor.pool.sources[0]
    stopped = zygotes()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BlockingIOError):
            _fill(client._control)
        with pytest.raises(BackendError, match="does not read"):
            do(loop, client.fork(999))
    finally:
        for pid in stopped:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGCONT)
    session = do(loop, executor.open("a"))
    assert do(loop, session.run(None, "print(2)")).output == "2\n"


def test_closing_leaves_no_process_and_no_descriptor(level: str, loop: asyncio.AbstractEventLoop) -> None:
    def once() -> None:
        executor = do(loop, start_executor(level, workers=2))
        sessions = [do(loop, executor.open(str(n))) for n in range(4)]
        for session in sessions:
            do(loop, session.run(None, "import os\nx = 1"))
        do(loop, executor.close())
        do(loop, executor.close())
        do(loop, asyncio.sleep(0))

    others = set(zygotes())
    once()
    before = len(os.listdir("/proc/self/fd"))
    once()
    assert len(os.listdir("/proc/self/fd")) == before
    assert until_gone(others) == set()


def test_the_end_of_the_harness_is_the_end_of_its_workers(level: str) -> None:
    program = (
        "import asyncio, os, signal, sys\nfrom rstar_eval.solver.executor import start_executor\n"
        "async def main():\n"
        "    executor = await start_executor(sys.argv[1])\n"
        "    session = await executor.open('a')\n"
        "    await session.run(None, 'x = 1')\n"
        "    task = asyncio.ensure_future(session.run(None, 'while True: pass'))\n"
        "    await asyncio.sleep(0.3)\n"
        "    (domain,) = executor.pool._busy\n"
        "    print(domain.worker.pid, executor.pool.sources[0].process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, level], capture_output=True, text=True, timeout=120, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr[-1000:]
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_the_zygote_gets_nothing_of_the_harness(
    level: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSTAR_EVAL_TEST_SECRET", "do-not-inherit")
    with open("/dev/null") as extra:
        os.set_inheritable(extra.fileno(), True)
        client = do(loop, start_zygote(level, Limits(), bare=True))  # type: ignore[arg-type]
        try:
            for pid in zygotes():
                try:
                    environ = Path(f"/proc/{pid}/environ").read_bytes()
                    handles = os.listdir(f"/proc/{pid}/fd")
                except PermissionError:  # not dumpable: nobody may look
                    continue
                assert b"do-not-inherit" not in environ
                assert len(handles) <= 6
        finally:
            do(loop, client.close())


@pytest.mark.slow
def test_five_hundred_starts_none_of_them_open(level: str, loop: asyncio.AbstractEventLoop) -> None:
    """Every start is either a verified cage or an error; starts that are killed half-way leave nothing behind."""
    others = set(zygotes())
    check = (
        "import socket, os\nheld = 0\n"
        "for act in (socket.socket, os.fork, lambda: open('/tmp/x', 'w'), lambda: os.listdir('/')):\n"
        "    try: act()\n    except OSError: held += 1\nprint(held)"
    )

    async def start(number: int) -> str:
        wanted = ("strong", "good")[number % 2] if level == "strong" else "good"
        task = asyncio.ensure_future(start_zygote(wanted, Limits(), bare=True))  # type: ignore[arg-type]
        if number % 5 == 4:
            await asyncio.sleep(0.01 + 0.001 * (number % 97))
            for pid in set(zygotes()) - others:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        try:
            client = await task
        except (CageError, BackendError):
            return "refused"
        if client.lost or number % 5 == 4:
            await client.close()
            return "killed"
        assert {layer.name for layer in client.layers} == set(LAYERS[wanted])  # type: ignore[index]

        async def never() -> Any:
            raise BackendError("no restart in this test")

        pool = Pool([client], never, 1, 1)
        run = await Session("x", pool, Limits()).run(None, check)
        await pool.close()
        return "held" if run.output == "4\n" else f"OPEN {run}"

    results = [do(loop, start(number)) for number in range(500)]
    assert set(results) <= {"held", "refused", "killed"}
    assert results.count("held") == 400
    assert until_gone(others) == set()


@pytest.mark.parametrize("killed", [1, 2, 3])
def test_a_zygote_that_is_killed_while_it_starts_is_started_again(
    killed: int, level: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, spawn, made = set(zygotes()), zygote_client._spawn, []

    def spawn_and_kill(*given: Any) -> subprocess.Popen[bytes]:
        process = spawn(*given)
        made.append(process)
        if len(made) <= killed:
            process.kill()
        return process

    monkeypatch.setattr(zygote_client, "_spawn", spawn_and_kill)
    start = start_zygote(level, Limits(), bare=True)  # type: ignore[arg-type]
    if killed < zygote_client.STARTS:
        do(loop, do(loop, start).close())
    else:
        with pytest.raises(BackendError, match="the executor's zygote did not start"):
            do(loop, start)
    assert len(made) == min(killed + 1, zygote_client.STARTS)
    assert not until_gone(before)
