"""The faults: each deals itself `campaign.times` times at random moments and lets the run recover."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rstar_eval.fsck import fsck
from rstar_eval.store import GRADES, TRAJECTORIES
from rstar_eval.trees import TREES

from .campaign import INTERRUPTED, MISTAKE, POLICY, Campaign, descendants, kill

SERVER = Path(__file__).parents[1] / "resume" / "scripted_server.py"
ZYGOTE, GRADER = "from cage import zygote", "rstar_eval.grading.worker"
KILLED = -signal.SIGKILL


def driver(campaign: Campaign) -> None:
    """kill -9 of the run's process, and whatever it started is gone soon after."""
    run = campaign.folder / "run"
    for _ in range(campaign.times):
        process = campaign.start(run)
        campaign.moment(process, run)
        below = descendants(process.pid)
        campaign.dealt(process, lambda process=process: kill(process.pid))  # type: ignore[misc]
        campaign.end(process, 0, KILLED)
        deadline = time.monotonic() + 20
        while (left := [one for one in below if Path(f"/proc/{one}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"processes outlive the driver: {[below[one] for one in left]}"
        if process.returncode == 0:
            campaign.judge(run)
            run = campaign.folder / f"run{campaign.tally.times}"
    campaign.finish(run)


def stopped(campaign: Campaign) -> None:
    """SIGTERM: the run ends in order, with exit code 130."""
    run = campaign.folder / "run"
    while campaign.tally.times < campaign.times:
        process = campaign.start(run)
        campaign.wait_for_searches(process, run, campaign.rng.randint(0, 4))
        time.sleep(campaign.rng.uniform(0.0, 0.1))
        campaign.dealt(process, lambda process=process: kill(process.pid, signal.SIGTERM))  # type: ignore[misc]
        campaign.end(process, 0, INTERRUPTED, -signal.SIGTERM)
        if process.returncode == 0:
            campaign.judge(run)
            run = campaign.folder / f"run{campaign.tally.times}"
    campaign.finish(run)


def inside(choose: Callable[[dict[int, tuple[int, str]], int], list[int]], *more: str) -> Callable[[Campaign], None]:
    """kill -9 of one process below the driver, several times a session: the session itself must go on to its end."""

    def deal(campaign: Campaign) -> None:
        number = 0
        while campaign.tally.times < campaign.times:
            number += 1
            assert number <= 10 * campaign.times, "the fault never finds its moment"
            run = campaign.folder / f"run{number}"
            process = campaign.start(run, *more)
            for _ in range(4):
                campaign.moment(process, run)
                victims = choose(descendants(process.pid), process.pid)
                if victims and campaign.tally.times < campaign.times:
                    victim = campaign.rng.choice(sorted(victims))
                    campaign.dealt(process, lambda victim=victim: kill(victim))  # type: ignore[misc]
            campaign.end(process, 0)
            campaign.judge(run)

    return deal


def zygotes(below: dict[int, tuple[int, str]], top: int) -> list[int]:
    """The processes of the sandbox that have others below them."""
    mine = {pid: parent for pid, (parent, command) in below.items() if ZYGOTE in command}
    return [pid for pid in mine if pid in mine.values()]


def executor_workers(below: dict[int, tuple[int, str]], top: int) -> list[int]:
    """The processes of the sandbox that run steps: those with none below them."""
    mine = {pid: parent for pid, (parent, command) in below.items() if ZYGOTE in command}
    return [pid for pid, parent in mine.items() if pid not in mine.values() and parent in mine]


def grader_workers(below: dict[int, tuple[int, str]], top: int) -> list[int]:
    return [pid for pid, (_, command) in below.items() if GRADER in command]


def model_server(campaign: Campaign) -> None:
    """kill -9 of the server that the policy is behind; the run says so, and goes on when it is there again."""
    run, port, server = campaign.folder / "run", "0", None
    log = campaign.folder / "tokens.log"
    try:
        for _ in range(campaign.times):
            server = subprocess.Popen(
                [sys.executable, str(SERVER), port, str(log), "0.01"], stdout=subprocess.PIPE, text=True
            )
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            campaign.policy = f"openai:script@http://127.0.0.1:{port}/v1?format=rstar&retries=1"
            process = campaign.start(run)
            campaign.wait_for_searches(process, run, campaign.rng.randint(1, 5))
            time.sleep(campaign.rng.uniform(0.0, 0.05))
            campaign.dealt(process, server.kill)
            server.kill()
            server.wait()
            campaign.end(process, 0, MISTAKE)
            if process.returncode == 0:
                campaign.judge(run)
                run = campaign.folder / f"run{campaign.tally.times}"
        server = subprocess.Popen([sys.executable, str(SERVER), port, str(log), "0"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        campaign.finish(run)
    finally:
        if server is not None:
            server.kill()
            server.wait()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, or skip: it takes the right to mount."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full(campaign: Campaign) -> None:
    """From a random moment on nothing can be written: one line that says so, and the rest when there is room."""
    with small_disk(campaign.folder / "disk", "4m") as disk:
        run = disk / "run"
        for _ in range(campaign.times):
            process = campaign.start(run)
            campaign.wait_for_searches(process, run, campaign.rng.randint(0, 3))
            campaign.dealt(process, lambda: fill(disk / "filler", campaign.rng.randrange(0, 6000)))
            text = campaign.end(process, 0, MISTAKE)
            assert process.returncode == 0 or "No space left on device" in text or "full" in text, text
            (disk / "filler").unlink(missing_ok=True)  # not there if the run was over before
            if process.returncode == 0:
                campaign.judge(run)
                shutil.rmtree(run)
        campaign.finish(run)


def fill(file: Path, but: int) -> None:
    """Fill the disk but for `but` bytes."""
    with open(file, "ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    with open(file, "r+b") as filler:
        filler.truncate(max(0, file.stat().st_size - but))


def misbehaving(kind: str, then: Callable[[Campaign, subprocess.Popen[str], Path], None]) -> Callable[[Campaign], None]:
    """A run in a process whose world misbehaves (child.py); `then` ends its sessions, and counts the fault."""

    def deal(campaign: Campaign) -> None:
        number = 0
        while campaign.tally.times < campaign.times:
            number += 1
            if number > 3 * campaign.times:  # all of these were judged; the fault took effect in `times` of them
                campaign.tally.note += f"; {number - 1} sessions"
                if not (campaign.tally.times or campaign.tally.details):  # details: something was lost or wrong
                    pytest.skip(f"no session of {number - 1} was touched by it")
                return
            run = campaign.folder / f"run{number}"
            then(campaign, campaign.start(run, child=kind), run)
            campaign.finish(run)

    return deal


def to_the_end(campaign: Campaign, process: subprocess.Popen[str], run: Path) -> None:
    campaign.tally.times += 1
    campaign.end(process, 0)
    campaign.judge(run)


def until_killed(campaign: Campaign, process: subprocess.Popen[str], run: Path) -> None:
    """On a slow disk a kill comes in the middle of a write."""
    campaign.wait_for_searches(process, run, campaign.rng.randint(1, 8))
    time.sleep(campaign.rng.uniform(0.0, 0.05))
    campaign.dealt(process, lambda: kill(process.pid))
    campaign.end(process, 0, KILLED)


def until_memory_ends(campaign: Campaign, process: subprocess.Popen[str], run: Path) -> None:
    """Counted where memory was missing: sessions that end with one line, and ones in which the event loop logs a
    callback that had none (with a traceback) and that get through all the same."""
    text = campaign.end(process, 0, MISTAKE, tracebacks=True)
    campaign.tally.note = "RLIMIT_AS, and a thread that takes the rest"
    campaign.tally.times += process.returncode == MISTAKE or "MemoryError" in text
    if process.returncode == MISTAKE:
        assert "memory" in text, text
    else:
        campaign.judge(run)


def out_of_memory(campaign: Campaign) -> None:
    """The kernel kills processes of the run when its cgroup is out of memory (version 1 or 2; else skip)."""
    parent = next((one for one in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")) if one.is_dir()), None)
    group = parent / f"rstar-eval-faults-{os.getpid()}" if parent else None
    try:
        assert group is not None
        group.mkdir()
    except (OSError, AssertionError):
        pytest.skip("needs the right to make a cgroup")
    limit = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
    usage = "memory.usage_in_bytes" if limit == "memory.limit_in_bytes" else "memory.current"
    try:
        if not (group / limit).exists():
            pytest.skip("this machine's cgroups do not limit memory")
        run, sessions = campaign.folder / "run", 0
        while campaign.tally.times < campaign.times:
            sessions += 1
            assert sessions <= 5 * campaign.times, "the kernel kills nothing"
            (group / limit).write_text(str(4 << 30))
            before = kernel_kills(group)
            campaign.prefix = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
            process = campaign.start(run)
            campaign.moment(process, run)
            if process.poll() is None:
                tighten(group, limit, usage, campaign.rng)
            campaign.end(process, 0, MISTAKE, KILLED)
            campaign.tally.times += kernel_kills(group) > before  # counted when the kernel has killed something
            if process.returncode == 0:
                campaign.judge(run)
                run = campaign.folder / f"run{sessions}"
        (group / limit).write_text(str(4 << 30))
        campaign.finish(run)
    finally:
        deadline = time.monotonic() + 20
        while (group / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.1)
        group.rmdir()


def kernel_kills(group: Path) -> int:
    """How often the kernel has killed in a group."""
    file = group / "memory.oom_control"
    words = (file if file.exists() else group / "memory.events").read_text().split()
    return int(words[words.index("oom_kill") + 1])


def tighten(group: Path, limit: str, usage: str, rng: random.Random) -> None:
    """Limit the memory to a share of what is in use; what can't be reclaimed brings the kernel's killer."""
    used = int((group / usage).read_text())
    for share in (rng.uniform(0.5, 0.9), 0.9, 0.97):
        with contextlib.suppress(OSError):  # version 1 refuses a limit that reclaiming can't reach
            (group / limit).write_text(str(int(used * share)))
            return


def corrupted(campaign: Campaign) -> None:
    """A byte of a log or of the trees is changed when the run is half done or done. Readers refuse it, naming fsck."""
    half = campaign.folder / "half"
    campaign.end(campaign.start(half, "--limit", "6"), 0)
    whole = campaign.folder / "whole"
    shutil.copytree(half, whole)
    campaign.end(campaign.start(whole), 0)
    for number in range(campaign.times):
        run = campaign.folder / f"run{number}"
        shutil.copytree(campaign.rng.choice([half, whole]), run)
        file = run / campaign.rng.choice([TRAJECTORIES, GRADES, TREES])
        data = bytearray(file.read_bytes())
        data[campaign.rng.randrange(len(data))] ^= 1 << campaign.rng.randrange(8)
        file.write_bytes(data)
        campaign.tally.times += 1
        assert fsck(run).findings, "the change was not noticed"
        trees = any(one.file == TREES for one in fsck(run).findings)
        assert fsck(run, repair=True).left == []
        campaign.end(campaign.start(run), 0)
        if trees and fsck(run).without_tree:  # a tree that is lost is told; its search stands
            lost = fsck(run).without_tree
            campaign.tally.note = "a damaged tree is set aside and told; its search stands"
            campaign.judge(run)
            campaign.tally.lost -= lost
        else:
            campaign.judge(run)


def two_runs(campaign: Campaign) -> None:
    """Two processes in one folder: one has it, the other is refused in one line, and takes over when the first dies."""
    for number in range(campaign.times):
        run = campaign.folder / f"run{number}"
        first = campaign.start(run)
        time.sleep(campaign.rng.uniform(0.0, 3.0))
        second = campaign.start(run)
        campaign.tally.times += 1
        if campaign.rng.random() < 0.5:
            campaign.moment(first, run)
            kill(first.pid)
        texts = [campaign.end(one, 0, MISTAKE, KILLED) for one in (first, second)]
        for one, text in zip((first, second), texts, strict=True):
            assert one.returncode != MISTAKE or "in use by another process" in text, text
        assert {first.returncode, second.returncode} != {MISTAKE}
        campaign.finish(run)


def needs_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (extra ray)")


def ray_process(*words: str) -> Callable[[Campaign], None]:
    """kill -9 of a process of Ray. A worker is replaced; without the raylet the run may end, and is given again."""

    def deal(campaign: Campaign) -> None:
        needs_ray()
        campaign.policy = f"{POLICY.partition('&')[0]}&delay=0.2"  # that it lasts, once the cluster is there
        more = ("--engine", "ray", "--workers", "2")
        number = 0
        while campaign.tally.times < campaign.times:
            number += 1
            assert number <= 10 * campaign.times, "the fault never finds its moment"
            run = campaign.folder / f"run{number}"
            process = campaign.start(run, *more)
            campaign.wait_for_searches(process, run, 1)
            time.sleep(campaign.rng.uniform(0.0, 0.5))
            below = descendants(process.pid)
            victims = [pid for pid, (_, command) in below.items() if any(word in command for word in words)]
            if victims:
                victim = campaign.rng.choice(sorted(victims))
                campaign.dealt(process, lambda victim=victim: kill(victim))  # type: ignore[misc]
            campaign.end(process, 0, MISTAKE)
            campaign.finish(run)

    return deal


FAULTS: dict[str, Callable[[Campaign], None]] = {
    "kill -9 of the driver": driver,
    "kill -9 of the zygote": inside(zygotes),
    "kill -9 of an executor worker": inside(executor_workers),
    "kill -9 of a grader worker": inside(grader_workers, "--grader", "math_verify"),
    "kill -9 of the model server": model_server,
    "kill -9 of a Ray worker": ray_process("ray::"),
    "kill -9 of the raylet": ray_process("raylet/raylet"),
    "SIGTERM": stopped,
    "disk full": disk_full,
    "slow disk, then kill -9": misbehaving("slow", until_killed),
    "clock jumps": misbehaving("clock", to_the_end),
    "out of memory (address space)": misbehaving("memory", until_memory_ends),
    "out of memory (cgroup)": out_of_memory,
    "a byte of a segment changed": corrupted,
    "two runs in one folder": two_runs,
}
