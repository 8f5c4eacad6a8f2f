"""The worker pool: a hang, a crash, a memory blow-up and an exception are outcomes, and the next pair is graded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.errors import UserError
from rstar_eval.grading import GraderPool, grade
from rstar_eval.grading.pool import _Worker


@pytest.fixture(scope="module")
def pool() -> Iterator[GraderPool]:
    with GraderPool(workers=2, seconds=5.0) as made:
        yield made


def assert_works(pool: GraderPool) -> None:
    reply = pool.run("math_verify", "1/2", "0.5")
    assert (reply.outcome, reply.rule) == ("correct", "math_verify"), reply


def test_a_hang_is_ended_by_the_clock_and_the_pool_goes_on(pool: GraderPool) -> None:
    reply = pool.run("selftest.spin", "", "", seconds=0.3)
    assert (reply.outcome, reply.rule) == ("grader_error", "timeout")
    assert_works(pool)


@pytest.mark.parametrize(
    ("what", "rule", "detail"),
    [
        ("segfault", "crash", "signal 11"),
        ("exit", "crash", "exit code 3"),
        ("memory", "memory", "MiB"),
        ("raise", "exception", "on purpose"),
    ],
)
def test_a_failing_worker_is_a_grader_error_with_its_reason(
    pool: GraderPool, what: str, rule: str, detail: str
) -> None:
    reply = pool.run(f"selftest.{what}", "", "")
    assert (reply.outcome, reply.rule) == ("grader_error", rule)
    assert detail in reply.detail
    assert_works(pool)


@pytest.mark.parametrize("what", ["write", "process"])
def test_a_worker_can_neither_write_files_nor_start_processes(pool: GraderPool, what: str) -> None:
    reply = pool.run(f"selftest.{what}", "", "")
    assert (reply.outcome, reply.rule) == ("grader_error", "exception")
    assert "may not" in reply.detail
    assert not Path("/tmp/rstar_eval_selftest").exists()


@pytest.mark.parametrize(("times", "rule"), [(1, "timeout"), (2, "timeout"), (3, "crash")])
def test_a_pair_whose_worker_is_killed_from_outside_is_tried_again(
    pool: GraderPool, times: int, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault campaign: such a pair was counted as a grader error."""
    given = []
    send = _Worker.send

    def killed_after(worker: _Worker, request: dict[str, Any]) -> None:
        send(worker, request)
        given.append(request)
        if len(given) <= times:
            worker.process.kill()

    with monkeypatch.context() as patch:
        patch.setattr(_Worker, "send", killed_after)
        reply = pool.run("selftest.spin", "", "", seconds=1)
    assert (reply.outcome, reply.rule) == ("grader_error", rule)
    assert len(given) == min(times + 1, 3)
    assert_works(pool)


@pytest.mark.parametrize(("times", "outcome"), [(4, "correct"), (5, "grader_error")])
def test_workers_that_are_killed_while_they_start_are_replaced(
    times: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault campaign: three in a row made a grader error of the pair, which had no part in it."""
    started = []
    ready = _Worker.wait_ready

    def killed_at_once(worker: _Worker) -> None:
        started.append(worker)
        if len(started) <= times:
            worker.process.kill()
        ready(worker)

    monkeypatch.setattr(_Worker, "wait_ready", killed_at_once)
    with GraderPool(workers=1) as pool:
        reply = pool.run("math_verify", "2", "2.0")
    assert reply.outcome == outcome
    assert len(started) == 5


def test_threads_and_asyncio_share_a_pool(pool: GraderPool) -> None:
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda n: pool.run("math_verify", str(n), f"{n}.0"), range(8)))
    assert [reply.outcome for reply in replies] == ["correct"] * 8

    async def both() -> list[str]:
        jobs = [asyncio.to_thread(grade, "1/2", pred, grader="math_verify", pool=pool) for pred in ("0.5", "0.6")]
        return [given.outcome for given in await asyncio.gather(*jobs)]

    assert asyncio.run(both()) == ["correct", "wrong"]


def test_waiting_for_a_worker_is_not_on_the_clock() -> None:
    with GraderPool(workers=1, seconds=1.0) as pool, ThreadPoolExecutor(3) as threads:
        spins = [threads.submit(pool.run, "selftest.spin", "", "", 0.4) for _ in range(2)]
        last = threads.submit(pool.run, "math_verify", "2", "2.0")
        assert [job.result().rule for job in spins] == ["timeout", "timeout"]
        assert last.result().outcome == "correct"


def test_closing_ends_the_processes_and_a_closed_pool_refuses() -> None:
    pool = GraderPool()
    pool.start()
    process = pool._idle[0].process
    pool.close()
    assert process.poll() is not None
    with pytest.raises(RuntimeError, match="closed"):
        pool.run("math_verify", "1", "1")


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    code = (
        "import os\nfrom rstar_eval.grading import GraderPool\npool = GraderPool()\npool.start()\n"
        "print(pool._idle[0].process.pid, flush=True)\nos._exit(0)\n"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    end = time.monotonic() + 10
    while (
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() and time.monotonic() < end
    ):
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_bad_pool_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="0 workers"):
        GraderPool(workers=0)


def test_importing_the_package_does_not_import_sympy() -> None:
    heavy = "('sympy', 'math_verify', 'mpmath')"
    code = f"import sys, rstar_eval.grading; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
